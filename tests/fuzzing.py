"""Mutations of everything that labeltui reads: whatever a file holds, nothing but an error of ours may come of it.

Each trial changes one file of a small audit or data set, in its bytes or by its structure, and uses it as the product
does. The trials of one seed are the same everywhere. They run in processes of their own, so that a crash, a hang or
memory without bound is a finding like any other.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import sqlite3
import struct
import tarfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from labeltui import config, patch, paths, sharing, sources, store
from labeltui.audit import Audit
from labeltui.audit import status as status_of
from labeltui.check import check
from labeltui.embed import EmbedSpec
from labeltui.embed.weights import load_checkpoint
from labeltui.errors import Cancelled, LabeltuiError
from labeltui.export import write
from labeltui.graphics import probe
from labeltui.head import HeadSpec
from labeltui.io.atomic import sha256
from labeltui.io.h5_writer import write_h5
from labeltui.scanning import ScanOptions, scan
from labeltui.sources.decode import decode
from labeltui.sources.issues import read_issues
from labeltui.train import compare, curves, jobs
from labeltui.train.predictions import Predictions
from tests import runs
from tests.factories import make_audit

SECONDS = 20
"""Longest that one trial may take."""
MEMORY = 3 << 30
"""Bytes that the trials together may take beside what the process had."""
SELDOM = 0.3
"""Weight of targets whose trial takes a quarter of a second."""
BLOCK = 250
"""Trials of one process: after a crash the next process goes on behind it."""

SCAN = ScanOptions(
    embed=EmbedSpec("pixels", batch_size=4, workers=0),
    head=HeadSpec(hidden=4, components=4, epochs=1, least_steps=1),
    folds=2,
    metric="cosine",
    threads=1,
)
"""Options of a scan that takes a fraction of a second."""

Rng = np.random.Generator
Use = Callable[[Path], object]
Mutation = Callable[[Path, Rng], None]

NUMBERS = (0, -1, 1, 2**31 - 1, -(2**31), 2**63 - 1, 10**9, 255, 256)
FLOATS = (np.nan, np.inf, -np.inf, -1.0, 2.0, 1e300, 0.0)
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, 1e308, "", "x", "\x1b[2J", "../../x", "\ud800", [], {}, [[]], {"a": []}, [1, "a"],
)  # fmt: skip


# mutations


def in_bytes(path: Path, rng: Rng) -> None:
    """Change, cut, repeat or insert bytes."""
    data = bytearray(path.read_bytes())
    how = rng.integers(6)
    if not data or how == 0:
        data += rng.bytes(int(rng.integers(1, 64)))
    elif how == 1:
        del data[int(rng.integers(len(data))) :]
    elif how == 2:
        start = int(rng.integers(len(data)))
        del data[start : start + int(rng.integers(1, 64))]
    elif how == 3:
        start = int(rng.integers(len(data)))
        data[start:start] = data[start : start + int(rng.integers(1, 512))]
    else:
        for _ in range(int(rng.choice([1, 3, 30]))):
            data[int(rng.integers(len(data)))] = int(rng.choice([0, 0xFF, 0x80, rng.integers(256)]))
    put(path, bytes(data))


def put(path: Path, data: bytes) -> None:
    """Put content in the place of a file; whoever has the old one mapped keeps it."""
    hidden = path.with_name(f".{path.name}.fuzz")
    hidden.write_bytes(data)
    hidden.replace(path)


def in_json(path: Path, rng: Rng) -> None:
    """Put a value of another type, or endless nesting, somewhere into a JSON file."""
    value = json.loads(path.read_text())
    places = list(_places(value))
    if not places or rng.random() < 0.05:
        put(path, b"[" * 20_000)
        return
    holder, key = places[int(rng.integers(len(places)))]
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = VALUES[int(rng.integers(len(VALUES)))]
    put(path, json.dumps(value).encode())


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield value, key
        yield from _places(each)


def in_lines(path: Path, rng: Rng) -> None:
    """Like `in_json`, in one line of several."""
    lines = path.read_text().splitlines()
    place = int(rng.integers(len(lines)))
    one = path.with_name(".line")
    one.write_text(lines[place])
    in_json(one, rng)
    lines[place] = one.read_text()
    one.unlink()
    put(path, "\n".join([*lines, ""]).encode())


def in_h5(path: Path, rng: Rng) -> None:
    """Change a value, a shape, a type, an attribute or a link of an HDF5 file."""
    copy = path.with_name(".copy.h5")
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+", locking=False) as file:
        names: list[str] = []
        file.visit(names.append)
        name = names[int(rng.integers(len(names)))]
        node = file[name]
        how = int(rng.integers(7))
        if how == 0 and len(node.attrs):
            key = list(node.attrs)[int(rng.integers(len(node.attrs)))]
            values = (b"x", b"\x1b[2J", -1, 2**40, np.nan, np.zeros(3), np.zeros((2, 2)), b"")
            node.attrs[key] = values[int(rng.integers(len(values)))]
        elif how == 1:
            del file[name]
        elif how == 2:
            del file[name]
            links = (
                h5py.SoftLink("/labels"),
                h5py.ExternalLink("/etc/passwd", "/"),
                h5py.SoftLink("/" + name),
            )
            file[name] = links[int(rng.integers(len(links)))]
        elif isinstance(node, h5py.Dataset):
            array = node[()]
            if how == 3:
                shapes = (
                    array.reshape(-1),
                    array[..., None],
                    array[:0],
                    array[:-1],
                    np.concatenate([array, array]),
                )
                _replace(file, name, shapes[int(rng.integers(len(shapes)))])
            elif how == 4:
                kind = rng.choice(["f4", "i8", "u1", "i2", "S4", "f8", "c8"])
                _replace(file, name, np.zeros(array.shape, kind))
            elif array.size:
                flat = array.reshape(-1)
                many = int(rng.choice([1, 1, 5, flat.size]))
                with np.errstate(all="ignore"):
                    choice = FLOATS if array.dtype.kind == "f" else NUMBERS
                    new = np.array(choice)[rng.integers(len(choice), size=many)].astype(array.dtype)
                flat[rng.integers(flat.size, size=many)] = new
                node[...] = array
    copy.replace(path)


def _replace(file: h5py.File, name: str, array: np.ndarray) -> None:
    attrs = dict(file[name].attrs)
    del file[name]
    file[name] = array
    for key, value in attrs.items():
        file[name].attrs[key] = value


STATEMENTS = (
    "UPDATE {table} SET {column} = {value} WHERE rowid = {row}",
    "UPDATE {table} SET {column} = {value}",
    "DELETE FROM {table} WHERE rowid = {row}",
    "DROP TABLE {table}",
    "CREATE VIEW v AS SELECT * FROM {table}",
    "CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM action; END",
    "ALTER TABLE {table} RENAME COLUMN {column} TO x",
    "ALTER TABLE {table} DROP COLUMN {column}",
)
SQL = (
    "NULL",
    "-1",
    "9223372036854775807",
    "1.5",
    "''",
    "'undo'",
    "'\x1b[2J'",
    "x''",
    "x'ff00'",
    "zeroblob(70000)",
)
TABLES = {
    "action": ("seq", "uuid", "time", "reviewer", "host", "kind", "undoes"),
    "decision": (
        "action", "sample_index", "sample_id", "kind", "old_label", "new_label", "second_label", "note",
    ),
    "generation": ("seq", "n", "sha256", "run"),
    "meta": ("key", "value"),
}  # fmt: skip


def in_sql(path: Path, rng: Rng) -> None:
    """Let another program write into the journal."""
    copy = path.with_name(".copy.db")
    shutil.copyfile(path, copy)
    table = str(rng.choice(list(TABLES)))
    statement = str(rng.choice(STATEMENTS)).format(
        table=table,
        column=rng.choice(TABLES[table]),
        value=rng.choice(SQL),
        row=rng.integers(1, 6),
    )
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA journal_mode=MEMORY")
        with contextlib.suppress(sqlite3.Error):
            db.execute(statement)
    copy.replace(path)


def in_zip(path: Path, rng: Rng) -> None:
    """Change the bytes of one member of a torch file, whose checksum fits again; most often the pickle."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    name = names[0] if rng.random() < 0.8 else names[int(rng.integers(len(names)))]
    one = path.with_name(".member")
    one.write_bytes(members[name])
    in_bytes(one, rng)
    members[name] = one.read_bytes()
    one.unlink()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    put(path, content.getvalue())


def in_header(path: Path, rng: Rng) -> None:
    """Change a value in the header of a safetensors file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = path.with_name(".header")
    header.write_bytes(data[8:end])
    in_json(header, rng)
    changed = header.read_bytes()
    header.unlink()
    put(path, len(changed).to_bytes(8, "little") + changed + data[end:])


def in_tar(path: Path, rng: Rng) -> None:
    """Change the header of one member of a tar file, whose checksum fits again."""
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        starts = [member.offset for member in archive]
    start = starts[int(rng.integers(len(starts)))]
    header = data[start : start + 512]
    for _ in range(int(rng.choice([1, 4, 30]))):
        header[int(rng.integers(512))] = int(rng.choice([0, 0x37, 0x2F, 0xFF, rng.integers(256)]))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[start : start + 512] = header
    put(path, bytes(data))


def in_text(path: Path, rng: Rng) -> None:
    """Change delimiters, quotes, line ends and encodings of a table or a list."""
    text = path.read_bytes()
    old, new = (
        (b",", b";"), (b"\n", b"\r"), (b"\n", b'"\n'), (b"a", b"\xff"), (b",", b""), (b",", b",,"),
        (b"path", b"path,path"),
        (b"", b"\xff\xfe"), (b".png", b"\0"), (b"cat", b""), (b"0", b"9" * 400), (b"0.5", b"nan"), (b"=", b"= ["),
    )[int(rng.integers(13))]  # fmt: skip
    count = int(rng.choice([1, -1]))
    put(path, text.replace(old, new, count) if old else new + text)


# what is read


def use_audit(path: Path) -> None:
    """Open an audit and look at everything that a review looks at."""
    with Audit.open(path / "my.audit", read_only=True) as audit:
        audit.summary()
        audit.queue()
        audit.conflicts()
        for i in (0, audit.n // 2):
            audit.evidence(i)
            audit.decision(i)
            audit.sample_name(i)
            audit.suggestions(i)
        audit.pairs(limit=3)
        audit.what_if([1], "relabel", label=0)
        status_of(audit, [job.as_json() for job in jobs.list_jobs(audit.path)])
        write(audit, io.BytesIO())


def use_journal(path: Path) -> None:
    """Open the journal as a reader, read it, and replay it."""
    with Audit.open(path / "my.audit", read_only=True) as audit:
        audit.decisions()
        write(audit, io.BytesIO())


def use_result(path: Path) -> None:
    """Adopt a run's result, and take back what that changed."""
    with store.Store.open(path / "my.audit") as opened:
        try:
            number = opened.adopt(path / "result.h5")
            with opened.at(number) as view:
                view.validate()
        finally:
            shutil.rmtree(path / "my.audit" / paths.DERIVED, ignore_errors=True)


def use_runs(path: Path) -> None:
    """List the training runs as ``labeltui jobs`` does."""
    found = jobs.list_jobs(path / "my.audit")
    text = "\n".join(
        [*jobs.list_lines(path, found), *(line for job in found for line in jobs.result_lines(job))]
    )
    assert text.replace("\n", "").isprintable(), repr(text)
    for job in found:
        json.dumps(job.as_json())
        curves.read(job.directory)


def use_comparison(path: Path) -> None:
    """Compare two runs."""
    with Audit.open(path / "my.audit", read_only=True) as audit:
        made = compare.compare(audit, [job.id for job in jobs.list_jobs(audit.path)])
        text = "\n".join(made.lines())
        assert text.replace("\n", "").isprintable(), repr(text)


def use_predictions(path: Path) -> None:
    """Read what a run predicted."""
    for run in (path / "my.audit" / "runs").iterdir():
        Predictions.read(run)


def use_check(path: Path) -> None:
    """Check the audit; what is damaged must be said, never raised."""
    check(path / "my.audit")


def use_weights(name: str) -> Use:
    """Load weights that somebody else trained."""

    def use(path: Path) -> None:
        load_checkpoint(torch.nn.Linear(8, 4), path / name, ["classifier"])

    return use


def use_unfinished(path: Path) -> None:
    """Resume a scan; whatever became of its files, the audit has the bytes of a scan that was never interrupted."""
    audit = path / "resumed.audit"
    try:
        shutil.copytree(path / "unfinished", audit / paths.PARTIAL)
        scan(path / "data12.npz", audit, SCAN)
        made = sha256(audit / paths.AUDIT_FILE)
        assert made == (path / "data12.sha256").read_text(), "the resumed scan made another audit"
    finally:
        shutil.rmtree(audit, ignore_errors=True)


def use_source(name: str, **options: Any) -> Use:
    """Open a data set."""

    def use(path: Path) -> None:
        given = {
            key: path / value if isinstance(value, str) and "." in value else value
            for key, value in options.items()
        }
        source = sources.open_source(path / name, sources.SourceOptions(**given))
        for index in (0, len(source.ids) - 1):
            source.read(index)
        if source.pred_probs is not None and source.pred_probs_classes is not None:
            classes = sources.order_classes(source.labels)
            sources.align_probabilities(source.pred_probs, source.pred_probs_classes, source.labels, classes)

    return use


def use_issues(path: Path) -> None:
    """Read somebody else's label issues beside the table that they are of."""
    source = sources.open_source(path / "table.csv")
    read_issues(path / "issues.csv", source.ids, source.labels, sources.order_classes(source.labels), [])


def use_annotations(path: Path) -> None:
    """Read Label Studio's annotations of an audit's samples."""
    with Audit.open(path / "my.audit", read_only=True) as audit:
        sharing.read_annotations(audit, path / "annotations.json")


@dataclass(frozen=True)
class Target:
    """One file, how it is changed, and how it is used."""

    file: str
    use: Use
    mutations: tuple[Mutation, ...]
    weight: float = 1


def targets(path: Path) -> dict[str, Target]:
    """All targets over the files that `prepare` made."""
    run = sorted(each.name for each in (path / "my.audit" / "runs").iterdir())[0]
    inside = f"my.audit/runs/{run}"
    return {
        "audit.h5": Target("my.audit/audit.h5", use_audit, (in_bytes, in_h5, in_h5), 4),
        "journal.db": Target("my.audit/journal.db", use_journal, (in_bytes, in_sql), 2),
        "scan.json": Target("my.audit/scan.json", use_audit, (in_bytes, in_json)),
        "result.h5": Target("result.h5", use_result, (in_bytes, in_h5, in_h5)),
        "check": Target("my.audit/audit.h5", use_check, (in_bytes, in_h5)),
        "check journal": Target("my.audit/journal.db", use_check, (in_bytes, in_sql)),
        "spec.json": Target(f"{inside}/spec.json", use_comparison, (in_bytes, in_json)),
        "predictions.npz": Target(f"{inside}/predictions.npz", use_predictions, (in_bytes,), 2),
        "exit.json": Target(f"{inside}/exit.json", use_runs, (in_bytes, in_json), 4),
        "heartbeat.json": Target(f"{inside}/heartbeat.json", use_runs, (in_bytes, in_json), 2),
        "events.jsonl": Target(f"{inside}/events.jsonl", use_runs, (in_bytes, in_lines), 2),
        "table": Target("table.csv", use_source("table.csv"), (in_bytes, in_text), 4),
        "arrays": Target("data.npz", use_source("data.npz"), (in_bytes,), 4),
        "array": Target("images.npy", use_source("images.npy", labels="labels.csv"), (in_bytes,), 2),
        "labels": Target("labels.csv", use_source("images.npy", labels="labels.csv"), (in_bytes, in_text), 2),
        "pred_probs": Target(
            "probs.csv", use_source("table.csv", pred_probs="probs.csv"), (in_bytes, in_text), 2
        ),
        "classes": Target(
            "classes.txt", lambda at: sources.read_classes(at / "classes.txt"), (in_bytes, in_text)
        ),
        "class names": Target(
            "names.csv", lambda at: sources.read_class_names(at / "names.csv"), (in_bytes, in_text)
        ),
        "png": Target("image.png", lambda at: decode((at / "image.png").read_bytes()), (in_bytes,), 3),
        "jpeg": Target("image.jpg", lambda at: decode((at / "image.jpg").read_bytes()), (in_bytes,), 3),
        "gif": Target("image.gif", lambda at: decode((at / "image.gif").read_bytes()), (in_bytes,), 2),
        "tiff": Target("image.tiff", lambda at: decode((at / "image.tiff").read_bytes()), (in_bytes,), 2),
        "torch weights": Target(
            "weights.pt", use_weights("weights.pt"), (in_bytes, in_zip, in_zip, in_zip), 4
        ),
        "safetensors": Target("w.safetensors", use_weights("w.safetensors"), (in_bytes, in_header), 2),
        "recipe.json": Target("unfinished/recipe.json", use_unfinished, (in_bytes, in_json), SELDOM),
        "log.jsonl": Target("unfinished/log.jsonl", use_unfinished, (in_bytes, in_lines), SELDOM),
        "rows": Target("unfinished/features.raw", use_unfinished, (in_bytes,), SELDOM),
        "row facts": Target("unfinished/facts.raw", use_unfinished, (in_bytes,), SELDOM),
        "graph.h5": Target("unfinished/graph.h5", use_unfinished, (in_bytes, in_h5), SELDOM),
        "duplicates.h5": Target("unfinished/duplicates.h5", use_unfinished, (in_bytes, in_h5), SELDOM),
        "head.h5": Target("unfinished/head.h5", use_unfinished, (in_bytes, in_h5), SELDOM),
        "tar": Target("shard.tar", use_source("shard.tar"), (in_bytes, in_tar, in_tar), 3),
        "zip": Target("files.zip", use_source("files.zip"), (in_bytes, in_zip), 3),
        "cifar": Target("cifar/data_batch_1", use_source("cifar"), (in_bytes,), 3),
        "idx": Target("mnist/raw/train-images-idx3-ubyte", use_source("mnist"), (in_bytes,), 2),
        "issues": Target("issues.csv", use_issues, (in_bytes, in_text), 2),
        "patch": Target("changes.json", lambda at: patch.read(at / "changes.json"), (in_bytes, in_json), 2),
        "annotations": Target("annotations.json", use_annotations, (in_bytes, in_json), 2),
        **(
            {"parquet": Target("rows.parquet", use_source("rows.parquet"), (in_bytes,), 3)}
            if (path / "rows.parquet").exists()
            else {}
        ),
        "settings": Target("config.toml", lambda at: config.load(at / "config.toml"), (in_bytes, in_text), 2),
        "terminals": Target(
            "terminals.json", lambda at: probe.recall("xterm", at / "terminals.json"), (in_bytes, in_json)
        ),
    }


def prepare(path: Path) -> None:
    """Make the files of all targets."""
    audit = make_audit(path, n=30, images=False).rename(path / "my.audit")
    with Audit.open(audit) as opened:
        opened.decide([1, 2], "exclude", note="a note")
        opened.decide([3], "relabel", label=(int(opened.given[3]) + 1) % opened.K)
        opened.undo()
        arrays = {
            "scores/blend": np.full(opened.n, 0.5, np.float32),
            "suggest/label": opened.suggested,
            "suggest/p": opened.chances,
            "embeddings/new": np.ones((opened.n, 3), np.float32),
            "graph/new/indices": np.tile(np.arange(2, dtype=np.int32), (opened.n, 1)),
            "graph/new/similarity": np.ones((opened.n, 2), np.float32),
            "graph/new/rev_indptr": np.zeros(opened.n + 1, np.int64),
            "graph/new/rev_indices": np.zeros(0, np.int32),
        }
        write_h5(
            path / "result.h5",
            arrays,
            {"": store.generation_attrs(opened.uuid, run="x"), "embeddings": {"default": "new"}},
        )
    for seed in (0, 1):
        runs.finished(audit, "current", seed, 0.9)
    _prepare_unfinished(path)
    layer = torch.nn.Linear(8, 4)
    save_file(layer.state_dict(), path / "w.safetensors")
    script = {
        "epoch": 3, "arch": "linear", "args": argparse.Namespace(lr=0.1, out=Path("x")), "best": np.float64(0.5),
        "optimizer": torch.optim.SGD(layer.parameters(), momentum=0.9).state_dict(), "state_dict": layer.state_dict(),
    }  # fmt: skip
    torch.save(script, path / "weights.pt")
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "gif", "tiff"):
        image.save(path / f"image.{suffix}")
    rows = [("png", "a"), ("jpg", "b"), ("gif", "a"), ("tiff", "b")]
    table = [f"image.{suffix},{label},train\n" for suffix, label in rows]
    (path / "table.csv").write_text("".join(["path,label,split\n", *table]))
    table = [f"image.{suffix},0.5,0.5\n" for suffix, _ in rows]
    (path / "probs.csv").write_text("".join(["path,a,b\n", *table]))
    np.save(path / "images.npy", rng.integers(0, 256, (6, 4, 4), dtype=np.uint8))
    (path / "labels.csv").write_text("path,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(6)))
    (path / "classes.txt").write_text("# a list\ncat\ndog\n")
    (path / "names.csv").write_text('a,cat\nb,"dog, large"\n')
    (path / "config.toml").write_text(
        '[review]\nreviewer = "ada"\nmax_kbps = 0\n\n[train]\nafter = 20\n\n[keys]\nkeep = "y"\n'
    )
    probe.remember("xterm", probe.Answers(), path / "terminals.json")
    _prepare_archives(path, image)
    _prepare_exchange(path)


def _prepare_archives(path: Path, image: Image.Image) -> None:
    """Make data sets as other libraries write them."""
    content = io.BytesIO()
    image.save(content, "png")
    picture = content.getvalue()
    with tarfile.open(path / "shard.tar", "w") as tar:
        for number in range(4):
            for name, data in ((f"{number:04}.png", picture), (f"{number:04}.cls", b"%d" % (number % 2))):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    with zipfile.ZipFile(path / "files.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{'ab'[number % 2]}/{number}.png", picture)
    rng = np.random.default_rng(2)
    (path / "cifar").mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        pixels = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
        (path / "cifar" / name).write_bytes(pickle.dumps({b"data": pixels, b"labels": [0, 1]}, 2))
    names = {b"label_names": [b"airplane", b"automobile"], b"num_vis": 3072}
    (path / "cifar" / "batches.meta").write_bytes(pickle.dumps(names, 2))
    raw = path / "mnist" / "raw"
    raw.mkdir(parents=True)
    for name, values in (
        ("images-idx3", rng.integers(0, 256, (4, 6, 6), dtype=np.uint8)),
        ("labels-idx1", np.array([0, 1, 0, 1], np.uint8)),
    ):
        header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
        (raw / f"train-{name}-ubyte").write_bytes(header + values.tobytes())
    with contextlib.suppress(ImportError):
        import pyarrow as pa
        from pyarrow import parquet

        images = [{"bytes": picture, "path": f"{number}.png"} for number in range(4)]
        parquet.write_table(pa.table({"image": images, "label": ["a", "b", "a", "b"]}), path / "rows.parquet")


def _prepare_exchange(path: Path) -> None:
    """Make what other programs say of an audit's samples."""
    rows = [f"image.{suffix},0.4,b\n" for suffix in ("png", "jpg", "gif", "tiff")]
    (path / "issues.csv").write_text("".join(["path,label_score,predicted_label\n", *rows]))
    with Audit.open(path / "my.audit", read_only=True) as audit:
        ids, labels = (
            [os.fsdecode(audit.sample_id(i)) for i in range(4)],
            [audit.names[i] for i in audit.given[:4]],
        )
    tasks = [
        {
            "data": {"path": id_},
            "annotations": [
                {
                    "completed_by": 1,
                    "created_at": "2026-01-01T00:00:00Z",
                    "result": [{"type": "choices", "value": {"choices": [label]}}],
                }
            ],
        }
        for id_, label in zip(ids, labels, strict=True)
    ]
    (path / "annotations.json").write_text(json.dumps(tasks))
    change = asdict(
        patch.Change("a/0.png", "0" * 64, "a", "b", False, "relabel", "ada", "2026-01-01T00:00:00Z", None)
    )
    (path / "changes.json").write_text(json.dumps({"labeltui_patch": patch.FORMAT, "changes": [change]}))


def _prepare_unfinished(path: Path) -> None:
    """Make the files of a scan that was stopped before it wrote its audit, and the hash of what it would write."""
    rng = np.random.default_rng(1)
    labels = np.repeat(["a", "b"], 6)
    np.savez(path / "data12.npz", embeddings=rng.normal(size=(12, 4)).astype(np.float32), labels=labels)
    scored: list[bool] = []
    with contextlib.suppress(Cancelled):
        scan(
            path / "data12.npz",
            path / "stopped.audit",
            SCAN,
            lambda stage, done, total: scored.append(stage == "score" and done == total),
            lambda: any(scored),
        )
    shutil.copytree(path / "stopped.audit" / paths.PARTIAL, path / "unfinished")
    scan(path / "data12.npz", path / "stopped.audit", SCAN)
    (path / "data12.sha256").write_text(sha256(path / "stopped.audit" / paths.AUDIT_FILE))


@dataclass
class Outcome:
    """What the trials came to.

    Attributes
    ----------
    trials, refused : Counter
        By target: all, and those that ended in an error of ours.
    faults : list of str
        Anything else, with the trial's number.
    slowest : float
        Seconds of the longest trial.
    memory : int
        Most bytes that a process took beside what it began with.
    """

    trials: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0
    memory: int = 0


def fuzz(path: Path, trials: int, seed: int = 0, only: str = "") -> Outcome:
    """Run trials over the files that `prepare` made in `path`.

    Parameters
    ----------
    path : Path
    trials : int
    seed : int
    only : str
        Part of the names of the targets to try.
    """
    names = [name for name in targets(path) if only in name]
    outcome, start = Outcome(), 0
    fork = multiprocessing.get_context("fork")
    while start < trials:
        ours, theirs = fork.Pipe(duplex=False)
        stop = min(trials, start + BLOCK)
        process = fork.Process(target=_block, args=(theirs, path, names, seed, start, stop))
        process.start()
        theirs.close()
        while True:
            try:
                number, name, refused, fault, seconds, memory = ours.recv()
            except EOFError:
                break
            outcome.trials[name] += 1
            outcome.refused[name] += refused
            outcome.slowest, outcome.memory = max(outcome.slowest, seconds), max(outcome.memory, memory)
            if fault:
                outcome.faults.append(f"trial {number} of seed {seed}, {name}: {fault}")
            start = number + 1
        process.join()
        if process.exitcode:
            outcome.faults.append(f"trial {start} of seed {seed}: the process ended with {process.exitcode}")
            start += 1
    return outcome


def _block(pipe: Any, path: Path, names: list[str], seed: int, start: int, stop: int) -> None:
    import time

    known = targets(path)
    weights = np.array([known[name].weight for name in names], float)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, _too_long)
    for number in range(start, stop):
        rng = np.random.default_rng([seed, number])
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        target = known[name]
        file = path / target.file
        original = file.read_bytes()
        begun = time.perf_counter()
        refused, fault = False, ""
        signal.alarm(SECONDS)
        try:
            target.mutations[int(rng.integers(len(target.mutations)))](file, rng)
            begun = time.perf_counter()
            target.use(path)
        except LabeltuiError as error:
            refused = True
            if not str(error).replace("\n", "").isprintable():
                fault = f"its message could not be shown: {str(error)!r}"
        except BaseException:
            fault = traceback.format_exc(limit=-6)
        signal.alarm(0)
        put(file, original)
        for remains in ("-wal", "-shm", "-journal"):
            (path / "my.audit" / f"journal.db{remains}").unlink(missing_ok=True)
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if memory > MEMORY and not fault:
            fault = f"the process took {memory >> 20} MiB"
        pipe.send((number, name, refused, fault, time.perf_counter() - begun, memory))
    pipe.close()


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")
