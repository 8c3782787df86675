"""The whole scan: stages in order, and the end in which an audit appears."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import journal, paths, sources, store
from labeltui.cluster import connect
from labeltui.errors import AuditError, AuditExists, Cancelled, SourceError, UsageError
from labeltui.io.atomic import sweep, sync_directory, write_json
from labeltui.parallel import Cancel, StageProgress
from labeltui.pipeline import Cache, Scored, ScoringOptions, measure, score
from labeltui.scanning import carrying
from labeltui.scanning.checkpoint import Checkpoint, Rows
from labeltui.scanning.label_table import LabelTable, read_label_table
from labeltui.scanning.options import SMALL_IMAGE, ScanOptions
from labeltui.scanning.record import ScanSummary, count_not_ok, list_faults, record, remarks
from labeltui.scanning.stages import Run, add_table, embed_rows, require_two
from labeltui.scanning.update import (
    Earlier,
    ExtendingCache,
    carried_history,
    content_hashes,
    count_decisions,
    decided_classes,
    described,
)
from labeltui.sources.files import record_files
from labeltui.text import safe

SMOKE_TEST = (
    f"SMOKE TEST: no --model was named, and of images above {SMALL_IMAGE} pixels the built-in `pixels` sees only 8 x 8 "
    "colours, so its flags say little; scan again with, for example, --model resnet50"
)

Array = npt.NDArray[Any]


def scan(
    source_path: Path | Sequence[Path],
    out: Path,
    options: ScanOptions | None = None,
    progress: StageProgress | None = None,
    cancel: Cancel | None = None,
    update: Path | None = None,
) -> Path:
    """Turn a labelled data set into an audit.

    Killed at any point and called again with the same arguments, it resumes where it stopped, and writes the
    same bytes as a run that was never stopped (on a CPU; on CUDA embeddings agree to the precision named in
    their attributes).

    Parameters
    ----------
    source_path : Path or sequence of Path
        The data, see `labeltui.sources`; several paths are archives of one directory.
    out : Path
        The audit's directory: new, empty, or holding an unfinished scan.
    options : ScanOptions, optional
    progress : callable, optional
        ``progress(stage, done, total)``, with a stage of `STAGES`; "embed" counts samples, the others hundredths.
    cancel : callable, optional
        Asked often; when it returns True, `Cancelled` is raised.
    update : Path, optional
        An earlier audit of the data. Its embeddings, neighbours and decisions are taken over for all samples that are
        still there, wherever they lie now; the result is the same as without it, but for the decisions.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    AuditExists
        There is an audit already.
    SourceError
        The data cannot be read, or fewer than two samples can be used.
    UsageError
        An option is wrong, or an unfinished scan there was begun with others.
    ModelError
        The backbone cannot be loaded.
    AuditBusy, AuditError
        Another process scans into it; the disk is full.
    Cancelled
    """
    options = options or ScanOptions()
    given = (source_path,) if isinstance(source_path, (str, Path)) else tuple(source_path)
    source_path, shards = sources.gather(tuple(map(Path, given)))
    options = replace(options, source=replace(options.source, shards=shards))
    out = Path(out)
    run = Run(
        options=options,
        report=progress or (lambda stage, done, total: None),
        cancelled=cancel or (lambda: False),
    )
    _check_target(out, options)
    if options.rescore and update is None:
        raise UsageError("--rescore is for --update", "there is none", "a scan trains on all samples anyway")
    if update is not None:
        earlier = Earlier(Path(update))
        try:
            return _read_and_scan(run, source_path, out, earlier)
        finally:
            earlier.close()
    return _read_and_scan(run, source_path, out, None)


def _read_and_scan(run: Run, source_path: Path, out: Path, earlier: Earlier | None) -> Path:
    options = run.options
    with run.stage("read"):
        given = (
            options.source.labels, options.source.pred_probs, options.classes, options.class_names, options.issues
        )  # fmt: skip
        whole = [source_path / name for name in options.source.shards or ("",)]
        whole += [*(path for path in given if path is not None)]
        files = record_files(whole)  # as they are before they are read
        source = sources.open_source(source_path, options.source)
        also = [] if earlier is None else decided_classes(earlier)
        table = read_label_table(source, options.splits, options.classes, options.class_names, also)
        if earlier is not None:
            earlier.match(source.ids, content_hashes(source, options.threads, run.cancelled))
            run.check()
            count_decisions(earlier, table.given, table.class_ids)
            table.notes[:0] = earlier.changes.lines()
        pred_probs = None
        if source.pred_probs is not None and source.pred_probs_classes is not None:
            pred_probs = sources.align_probabilities(
                source.pred_probs, source.pred_probs_classes, source.labels, table.class_ids
            )
            table.notes[:0] = sources.check_agreement(pred_probs, table.given, table.class_ids)
        issues = None
        if options.issues is not None:
            issues = sources.read_issues(
                options.issues, source.ids, source.labels, table.class_ids, table.notes
            )
        if source.embeddings is not None and options.embed.model != "pixels":
            table.notes.append(f"the data brings its embeddings: {safe(options.embed.model)} was not used")
        smoke_test = not options.model_named and _largest_side(source) > SMALL_IMAGE
        if smoke_test:
            table.notes.insert(0, SMOKE_TEST)
    try:
        _make_directory(out, options.shared)
        if options.resume is False and (out / paths.PARTIAL).is_dir():
            with Checkpoint(out) as unfinished:
                unfinished.discard()
        with Checkpoint(out) as checkpoint, ExitStack() as engine:
            if not _finished_before(run, source, out, checkpoint):
                if options.engine == "ray":
                    run.crew = engine.enter_context(
                        connect(options.address, options.worker_cores, options.threads)
                    )
                _scan(run, source, table, pred_probs, issues, checkpoint, smoke_test, files, earlier)
    except Cancelled:  # of whichever stage was at work
        raise run.stopped() from None
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else str(out)
        raise AuditError(
            "a scan must be able to read its data and to write its audit",
            f"{safe(where)}: {safe(error.strerror or str(error))}",
            "free space or choose another -o; an unfinished scan resumes where it stopped",
        ) from None
    return out


def _check_target(out: Path, options: ScanOptions) -> None:
    """Refuse a place where a new audit would bury something."""
    shown = safe(str(out))
    checkpoint = (out / paths.PARTIAL).is_dir()
    if (out / paths.AUDIT_FILE).exists() and not checkpoint:
        raise AuditExists(
            "a scan never overwrites an audit",
            f"{shown} is a finished one",
            f"labeltui review {shown}, or choose another -o",
        )
    if options.resume and not checkpoint:
        raise UsageError("--resume needs an unfinished scan", f"there is none in {shown}", "leave it out")
    if out.exists() and not checkpoint:
        if not out.is_dir():
            raise UsageError("-o names a directory", f"{shown} is a file", "choose another -o")
        if any(name for name in os.listdir(out) if not name.startswith(".")):
            raise UsageError("-o names a new directory", f"{shown} holds other files", "choose another -o")


def _make_directory(out: Path, shared: bool) -> None:
    """Make the audit's directory for its owner alone, or for a group; one that is there keeps its permissions."""
    missing = [each for each in (out, *out.parents) if not each.exists()]
    if missing:
        out.mkdir(0o700, parents=True)
        for each in missing:
            sync_directory(each.parent)
    if shared:
        # Set-group-id: files created inside belong to the directory's group.
        out.chmod(0o2770)


def _finished_before(run: Run, source: sources.Source, out: Path, checkpoint: Checkpoint) -> bool:
    """Whether an earlier run was killed after its audit appeared; then only the remains are cleared away."""
    if not (out / paths.AUDIT_FILE).exists():
        return False
    with store.Store.open(out) as opened:
        other = ""
        if opened.scan.get("options") != _recorded_options(run.options):
            other = "made with other options"
        elif opened.scan.get("root") != os.fsdecode(source.root) or list(opened.ids) != list(source.ids):
            other = "made from other data"
    if other:
        raise AuditExists(
            "a scan never overwrites an audit",
            f"{safe(str(out))} is a finished one, {other}",
            "choose another -o",
        )
    checkpoint.discard()
    return True


def _largest_side(source: sources.Source) -> int:
    """Return the median of the larger sides of a few images, in pixels; 0 where there are none that can be read."""
    if not source.has_images:
        return 0
    sides = []
    for index in np.linspace(0, len(source.ids) - 1, min(16, len(source.ids))).astype(int).tolist():
        with suppress(SourceError):
            sides.append(max(source.image(index).size))
    return int(np.median(sides)) if sides else 0


def _scan(
    run: Run,
    source: sources.Source,
    table: LabelTable,
    pred_probs: Array | None,
    issues: sources.Issues | None,
    checkpoint: Checkpoint,
    smoke_test: bool,
    files: list[dict[str, object]],
    earlier: Earlier | None,
) -> None:
    scored = Scored()
    if earlier is not None:
        scored.metadata["update"] = {**described(earlier.path), **earlier.changes.as_json()}
    scored.metadata["files"] = [
        {"file": os.path.relpath(str(entry["path"]), source.root), **entry} for entry in files
    ]
    if smoke_test:
        scored.metadata["smoke_test"] = True
    with run.stage("embed"):
        rows = embed_rows(run, source, table, checkpoint, scored, earlier)
    inside = (rows.status == paths.OK) & table.inside
    require_two(table, rows, inside)
    add_table(scored, table, rows)
    if pred_probs is not None:  # kept, so that re-training can weigh them too
        scored.arrays["pred_probs"] = np.ascontiguousarray(pred_probs, dtype=np.float32)
    if issues is not None:  # evidence for people; no probability, so it takes no part in the blend
        score_, proposed = issues
        usable = inside & (table.given >= 0)
        scored.add(
            {
                "scores/datalab": np.where(usable, score_, sources.NO_SCORE),
                "proposals/datalab": np.where(usable, proposed, -1).astype(np.int32),
            },
            {"scores/datalab": {"title": "cleanlab's Datalab"}},
        )
    name = str(scored.attrs["embeddings"]["default"])
    cache: Cache = checkpoint
    if earlier is not None:
        cache = ExtendingCache(checkpoint, earlier, name, rows.features, run.options.threads)
    inputs = carrying.Inputs(
        labels=table.given,
        n_classes=len(table.class_ids),
        embeddings=rows.features,
        inside=inside,
        pred_probs=pred_probs,
        name=name,
        device=run.options.embed.devices[0],
    )
    arrays = inputs.labels, inputs.n_classes, inputs.embeddings, inside, rows.pixels
    how: dict[str, Any] = {
        "image": source.image if source.has_images else None, "name": name, "ready": source.embeddings is not None,
        "stages": run, "cache": cache,
    }  # fmt: skip
    anew = "--rescore" if run.options.rescore else ""
    if earlier is not None and not anew:
        anew = carrying.why_not(earlier, inputs, table.class_ids, _same_scoring(earlier, run.options))
    if earlier is None or anew:
        score(*arrays, run.options, scored, pred_probs=pred_probs, device=inputs.device, **how)
        if earlier is not None:
            scored.notes.append(f"classifier and detectors were trained anew: {anew}")
    else:
        neighbours, groups = measure(*arrays, run.options, scored, **how)
        carrying.add_scores(earlier, inputs, run.options, scored, neighbours, groups, run)
    table.notes.extend(scored.notes)
    _write(run, source, table, rows, checkpoint, scored, earlier)


# --- the end ---------------------------------------------------------------------------------------------------------


def _same_scoring(earlier: Earlier, options: ScanOptions) -> bool:
    """Whether an earlier audit was scored by the same options."""
    before, now = earlier.store.scan.get("options"), _recorded_options(options)
    names = [each.name for each in fields(ScoringOptions) if each.name in now]
    return isinstance(before, Mapping) and all(before.get(name) == now[name] for name in [*names, "splits"])


def _recorded_options(options: ScanOptions) -> dict[str, Any]:
    """Return the options that decide the result, as JSON values."""
    recorded = {key: _plain(value) for key, value in asdict(options).items()}
    for name in (
        "threads",
        "resume",
        "shared",
        "command",
        "model_named",
        "engine",
        "address",
        "worker_cores",
        "rescore",
    ):
        del recorded[name]
    del recorded["embed"]["workers"]
    return recorded


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return os.fsdecode(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _write(
    run: Run,
    source: sources.Source,
    table: LabelTable,
    rows: Rows,
    checkpoint: Checkpoint,
    scored: Scored,
    earlier: Earlier | None,
) -> None:
    out = checkpoint.path.parent
    history = None
    if earlier is not None:
        history = carried_history(earlier, table.ids, table.given, table.class_ids)
    with run.stage("write"):
        digest, uuid = checkpoint.finish(scored.arrays, scored.attrs)
        sweep(out)
        # No audit.h5, no decisions: a journal here is the remains of a run killed at this very place.
        for leftover in out.glob(f"{paths.JOURNAL_FILE}*"):
            leftover.unlink()
        journal.create(out, uuid, 0o660 if run.options.shared else 0o600, history)
    table.notes.extend(remarks(table.ids, rows.status, rows.faults))
    summary = ScanSummary(
        samples=table.n,
        classes=len(table.class_ids),
        unlabelled=int((table.given < 0).sum()),
        not_ok=count_not_ok(rows.status),
        faults=list_faults(table.ids, rows.status, rows.faults),
        flags=int(scored.flagged.sum()),
        csg=scored.csg,
        notes=table.notes,
        seconds=round(time.monotonic() - run.begun, 3),
        stages=run.seconds,
    )
    write_json(
        out / paths.SCAN_FILE,
        record(
            summary,
            started=run.started,
            command=run.options.command,
            root=os.fsdecode(source.root),
            source=source.describe(),
            sha256=digest,
            options=_recorded_options(run.options),
            **scored.metadata,
        ),
    )
    for name in (paths.SCAN_FILE, f"{paths.PARTIAL}/{paths.AUDIT_FILE}"):
        (out / name).chmod(stat.S_IMODE(out.stat().st_mode) & 0o666)
    checkpoint.publish()
