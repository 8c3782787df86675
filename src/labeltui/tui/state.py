"""What the UI remembers of an audit between two starts: the place in the queue, filters, classes used last."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeltui.audit import CLASS_ORDERS, DROP, KINDS, ORDERS, QueueSpec
from labeltui.io import files
from labeltui.paths import state_dir

if TYPE_CHECKING:
    from labeltui.tui.session import Session

FORMAT = 1
USER_FILE = "user.json"


def file_of(uuid: str) -> Path:
    """Return the file that remembers an audit, which need not exist."""
    return state_dir() / "audits" / f"{uuid}.json"


def first_time() -> bool:
    """Whether nothing was ever remembered here: the person is new."""
    return not (state_dir() / "audits").exists()


def choice(name: str) -> str:
    """Return what the user chose last, in any audit; empty when nothing.

    Parameters
    ----------
    name : str
        ``theme`` or ``scaling``.
    """
    value = _choices().get(name)
    return value if isinstance(value, str) else ""


def save_choice(name: str, value: str) -> None:
    """Save a choice of the user's for all audits; errors are ignored.

    Parameters
    ----------
    name, value : str
    """
    _write(state_dir() / USER_FILE, {**_choices(), "format": FORMAT, name: value})


def _choices() -> dict[str, Any]:
    try:
        return files.read_json(state_dir() / USER_FILE)
    except (OSError, ValueError):
        return {}


def save(session: Session) -> None:
    """Save the position in the review; errors are ignored.

    Parameters
    ----------
    session : Session
    """
    audit = session.audit
    state = {
        "format": FORMAT,
        "spec": asdict(session.spec),
        "sample": session.sample,
        "recent": [os.fsdecode(audit.class_ids[label]) for label in session.recent],
        "class_order": session.class_order,
        "checks": session.checks.on,
        "reference": session.reference,
        "views": {name: asdict(spec) for name, spec in session.views.items()},
    }
    _write(file_of(audit.uuid), state)


def _write(file: Path, state: dict[str, Any]) -> None:
    """Write a state; one that cannot be written is no reason to disturb anybody."""
    hidden = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden.write_text(json.dumps(state), encoding="utf-8", errors="surrogateescape")
        hidden.replace(file)
    except OSError:
        hidden.unlink(missing_ok=True)


def load(uuid: str) -> dict[str, Any]:
    """Return what was remembered, empty when there is nothing or it cannot be read."""
    try:
        state = files.read_json(file_of(uuid))
    except (OSError, ValueError):
        return {}
    return state if state.get("format") == FORMAT else {}


def restore(session: Session, state: dict[str, Any]) -> bool:
    """Restore the saved position as far as it still exists.

    Parameters
    ----------
    session : Session
    state : dict
        From `load`.

    Returns
    -------
    bool
        False if there is no saved position.
    """
    audit = session.audit
    order = state.get("class_order")
    session.class_order = order if order in CLASS_ORDERS else "overlap"
    for name in state.get("recent", []) if isinstance(state.get("recent"), list) else []:
        if isinstance(name, str) and os.fsencode(name) in audit.class_ids:
            session.used(audit.class_ids.index(os.fsencode(name)))
    session.checks.on = state.get("checks") is True
    session.reference = reference if isinstance(reference := state.get("reference"), str) else ""
    session.load_classes()

    def sound(stored: object) -> QueueSpec | None:
        return _spec(stored, audit.K, len(audit.split_names), set(audit.detectors()))

    views = state.get("views")
    for name, stored in views.items() if isinstance(views, dict) else ():
        if (view := sound(stored)) is not None:
            session.views[name] = view
    spec = sound(state.get("spec"))
    session.open(spec if spec is not None else QueueSpec())
    sample = state.get("sample")
    if spec is None or not isinstance(sample, int) or not 0 <= sample < audit.n:
        return False
    if sample in session.queue:
        session.visit(sample)
    return True


def _spec(stored: object, classes: int, splits: int, detectors: set[str]) -> QueueSpec | None:
    """Return the stored queue if it makes sense in this audit."""
    if not isinstance(stored, dict):
        return None
    values: dict[str, Any] = {
        field.name: stored[field.name] for field in fields(QueueSpec) if field.name in stored
    }

    def among(name: str, count: int) -> bool:
        value = values.get(name)
        return value is None or (isinstance(value, int) and 0 <= value < count)

    sound = (
        among("given", classes)
        and among("suggested", classes)
        and among("split", splits)
        and (values.get("detector") is None or values["detector"] in detectors)
        and (values.get("decision") is None or values["decision"] in KINDS[1:])
        and values.get("order") in ORDERS
        and (values["order"] != "drop" or DROP in detectors)
        and isinstance(values.get("text"), str | None)
        and all(isinstance(values.get(name), int | float | None) for name in ("score_below", "score_from"))
        and values.get("decided") in (True, False, None)
        and values.get("flagged") in (True, False, None)
        and values.get("unusable") in (True, False, None)
        and isinstance(values.get("seed"), int)
    )
    return QueueSpec(**values) if sound else None
