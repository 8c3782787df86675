"""Which samples the queue shows, in which order, and how the classes are sorted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from labeltui.audit import CLASS_ORDERS, DROP, KINDS, QueueSpec
from labeltui.text import safe
from labeltui.tui.screens.deciding import Deciding
from labeltui.tui.widgets.over import Item

ORDERS = {
    "score": "lowest label score",
    "uncertainty": "most uncertain",
    "drop": "largest expected overlap reduction",
    "random": "random",
    "index": "order of the source",
}
COLUMNS = {
    "overlap": "overlap with other classes",
    "flags": "flags left",
    "samples": "samples",
    "reviewed": "reviewed samples",
    "self_similarity": "neighbours of the class itself",
    "spectral_contribution": "spectral contribution",
    "name": "name",
    "index": "order in the audit",
}


def filters_in_words(spec: QueueSpec, splits: list[str]) -> str:
    """Describe the active filters, the class aside; empty without any.

    Parameters
    ----------
    spec : QueueSpec
    splits : list of str
        Names of the splits.

    Returns
    -------
    str
    """
    words = []
    if spec.decision is not None:
        words.append(f"decided {spec.decision}")
    elif spec.decided is None:
        words.append("decided or not")
    elif spec.decided:
        words.append("decided")
    if spec.flagged is None:
        words.append("flagged or not")
    elif not spec.flagged:
        words.append("not flagged")
    if spec.unusable:
        words.append("unusable")
    if spec.split is not None:
        words.append(f"split {splits[spec.split]}")
    if spec.text:
        words.append(f"path has {safe(spec.text, 16)}")
    if spec.detector is not None:
        words.append(f"by {spec.detector}")
    if spec.score_from is not None:
        words.append(f"score {spec.score_from:g} to {1 if spec.score_below is None else spec.score_below:g}")
    elif spec.score_below is not None:
        words.append(f"score below {spec.score_below:g}")
    if spec.order != "score":
        words.append(ORDERS[spec.order])
    return ", ".join(words)


def _range(text: str) -> tuple[float | None, float | None]:
    """Read ``.2`` (below), ``.2 .. .5`` or nothing; raises ValueError."""
    numbers = [float(word) for word in text.replace("..", " ").replace(" to ", " ").split()]
    if len(numbers) > 2 or any(not 0 <= number <= 1 for number in numbers):
        raise ValueError(text)
    if not numbers:
        return None, None
    return (None, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _range_in_words(spec: QueueSpec) -> str:
    below = "" if spec.score_below is None else f"{spec.score_below:g}"
    return below if spec.score_from is None else f"{spec.score_from:g} .. {below or 1}"


class Narrowing(Deciding):
    """Handlers of filters and orders; a subclass paints in `renewed`."""

    def renewed(self) -> None:
        """Paint after the queue was built anew."""
        raise NotImplementedError

    def _narrow(self, **changes: Any) -> None:
        session = self.session
        session.open(replace(session.spec, **changes), session.sample if "order" in changes else None)
        self.renewed()
        words = (
            filters_in_words(session.spec, session.audit.split_names)
            or "flagged and undecided, lowest label score"
        )
        self.say(f"{session.left:,} samples: {words}", "plain" if session.left else "warn")

    def do_filter(self) -> None:
        audit, spec = self.session.audit, self.session.spec
        items: list[Item[Callable[[], object]]] = [
            Item("given class …", self._ask_given, "" if spec.given is None else audit.names[spec.given]),
            Item(
                "suggested class …",
                self._ask_suggested,
                "" if spec.suggested is None else audit.names[spec.suggested],
            ),
            Item("label score …", self._ask_score, _range_in_words(spec)),
            Item("path holds a text …", self._ask_text, spec.text or ""),
        ]
        if audit.split_names:
            items.append(
                Item("split …", self._ask_split, "" if spec.split is None else audit.split_names[spec.split])
            )
        items.append(Item("one detector's view …", self._ask_detector, spec.detector or "blend"))
        for decision in KINDS[1:]:
            items.append(Item(f"decided: {decision}", self._set(decision=decision, flagged=None), ""))
        if unusable := sum(audit.not_ok().values()):
            show = self._set(unusable=True, flagged=None, decision=None)
            items.append(Item("unusable: unreadable, not finite or zero", show, f"{unusable:,}"))
        items += [
            Item("decided or not", self._set(decision=None, decided=None)),
            Item("flagged or not", self._set(flagged=None)),
            Item("not flagged", self._set(flagged=False)),
            Item("no filter: flagged and undecided", self.do_clear_filters),
        ]
        self.panel.find("Show only …  (filters combine)", items, lambda act: act())

    def _set(self, **changes: Any) -> Callable[[], None]:
        return lambda: self._narrow(**changes)

    def do_clear_filters(self) -> None:
        fresh = QueueSpec()
        self._narrow(
            decided=fresh.decided, flagged=fresh.flagged, split=None, text=None, detector=None, score_below=None,
            score_from=None, decision=None, suggested=None, unusable=None,
        )  # fmt: skip

    def _ask_text(self) -> None:
        def take(text: str) -> None:
            self._narrow(text=text or None)

        self.panel.ask("Show samples whose path holds", take, self.session.spec.text or "", "empty: all")

    def _ask_score(self) -> None:
        def take(text: str) -> None:
            try:
                low, high = _range(text)
            except ValueError:
                self.say(
                    f"a label score is a number from 0 to 1, a range two of them; got {safe(text)}", "warn"
                )
                return
            self._narrow(score_from=low, score_below=high)

        self.panel.ask(
            "Show samples with a label score below, or from .. to",
            take,
            _range_in_words(self.session.spec),
            ".2 or .2 .. .5; empty: all",
        )

    def _ask_given(self) -> None:
        self._ask_class("given")

    def _ask_suggested(self) -> None:
        self._ask_class("suggested")

    def _ask_class(self, which: str) -> None:
        def take(label: int) -> None:
            self._narrow(**{which: None if label < 0 else label})

        audit = self.session.audit
        items = [Item("all classes", -1), *(Item(name, label) for label, name in enumerate(audit.names))]
        self.panel.find(f"Which {which} class?", items, take)

    def do_views(self) -> None:
        """Open a saved view, or save the queue as one, or remove one."""
        session = self.session
        audit, views = session.audit, session.views

        def words(spec: QueueSpec) -> str:
            classes = [audit.names[label] for label in (spec.given, spec.suggested) if label is not None]
            return ", ".join([*classes, filters_in_words(spec, audit.split_names)]).strip(", ")

        def open_(spec: QueueSpec) -> Callable[[], None]:
            return lambda: self._open_view(spec)

        items: list[Item[Callable[[], object]]] = [
            Item(safe(name), open_(spec), words(spec)) for name, spec in views.items()
        ]
        items.append(Item("save this queue as a view …", self._save_view, words(session.spec)))
        if views:
            items.append(Item("remove a view …", self._remove_view))
        self.panel.find("Open which view?", items, lambda act: act())

    def _open_view(self, spec: QueueSpec) -> None:
        self.session.trail = []
        self.session.open(spec)
        self.renewed()
        self.say(f"{self.session.left:,} samples", "plain" if self.session.left else "warn")

    def _save_view(self) -> None:
        def take(name: str) -> None:
            if name.strip():
                self.session.views[name.strip()] = self.session.spec
                self.host.remember()
                self.say(f"saved as {safe(name.strip())}; {self.keymap.hint('views')} opens it", "good")

        self.panel.ask("Name of the view", take)

    def _remove_view(self) -> None:
        def take(name: str) -> None:
            del self.session.views[name]
            self.host.remember()
            self.say(f"removed the view {safe(name)}")

        self.panel.find("Remove which view?", [Item(safe(name), name) for name in self.session.views], take)

    def _ask_split(self) -> None:
        items = [
            Item("all splits", -1),
            *(Item(name, n) for n, name in enumerate(self.session.audit.split_names)),
        ]
        self.panel.find("Which split?", items, lambda n: self._narrow(split=None if n < 0 else n))

    def _ask_detector(self) -> None:
        items = [Item(f"{name}  {title}", name) for name, title in self.session.audit.detectors().items()]

        def take(name: str) -> None:
            self._narrow(detector=None if name == "blend" else name)

        self.panel.find("Whose score counts?", items, take)

    def do_order(self) -> None:
        now = self.session.spec.order
        can_drop = DROP in self.session.audit.detectors()
        items = [
            Item(words, name, "now" if name == now else "")
            for name, words in ORDERS.items()
            if name != "drop" or can_drop
        ]
        self.panel.find("In which order?", items, lambda name: self._narrow(order=name))

    def do_sort(self) -> None:
        session = self.session

        def take(order: str) -> None:
            session.class_order = order
            session.load_classes()
            self.renewed()

        items = [
            Item(words, name, "now" if name == session.class_order else "")
            for name, words in COLUMNS.items()
            if name in CLASS_ORDERS
        ]
        self.panel.find("Order the classes by", items, take)
