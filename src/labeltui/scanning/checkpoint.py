"""An unfinished scan: the rows embedded so far and the steps finished after them, safe against a kill at any point.

::

    scan.partial/
      lock            held by the one scan that writes here
      recipe.json     what the rows depend on; a scan with another recipe is refused
      features.raw    (N, d), preallocated
      facts.raw       (N,) records: hash of the bytes, hash of the pixels, status
      log.jsonl       one line a finished batch with the hash of its rows, appended after they reached the disk
      <step>.h5       results of the steps after embedding, each under the key of its inputs
      <step>.part     unfinished work of a long step, see `Part`
      audit.h5        the finished file, for the moment before it moves up

What was damaged since, or does not fit, is computed again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from labeltui import paths
from labeltui.errors import AuditBusy, AuditError, DamagedAudit, UsageError
from labeltui.io import files
from labeltui.io.atomic import sweep, sync_directory, write_json
from labeltui.io.h5_reader import H5
from labeltui.io.h5_writer import Attribute, write_h5
from labeltui.io.part import Part
from labeltui.locks import try_lock
from labeltui.pipeline import Expected, as_expected
from labeltui.text import safe

ROW_DTYPE = np.dtype([("sha256", "u1", 32), ("pixels", "u1", 32), ("status", "u1")])
FLUSH_SHARE = 0.2  # of the time, at most, is spent waiting for the disk

Array = npt.NDArray[Any]


class Block(Protocol):
    """Finished rows `start` to `stop`, as `labeltui.embed.stream` yields them."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def features(self) -> Array: ...  # (n, d)
    @property
    def sha256(self) -> Array: ...  # (n, 32) uint8
    @property
    def pixels(self) -> Array: ...  # (n, 32) uint8
    @property
    def status(self) -> Array: ...  # (n,) uint8
    @property
    def faults(self) -> list[tuple[int, str]]: ...  # sample, reason


@dataclass(frozen=True)
class Rows:
    """All samples, embedded.

    Attributes
    ----------
    features : (N, d) float32 or float16
        Memory-mapped; rows of samples that are not ok are 0.
    sha256, pixels : (N, 32) uint8
    status : (N,) uint8
    faults : dict
        Sample -> reason, for those that are not ok.
    """

    features: Array
    sha256: Array
    pixels: Array
    status: Array
    faults: dict[int, str]


class Checkpoint:
    """The directory ``scan.partial`` of an audit; a context manager that holds its lock.

    Parameters
    ----------
    audit : Path
        The audit's directory.

    Raises
    ------
    AuditBusy
        Another process scans into the same audit.
    """

    def __init__(self, audit: Path) -> None:
        self.path = audit / paths.PARTIAL
        self.resumed = self.path.is_dir()
        files.make_directory(self.path)
        self._open: list[int] = []
        self._done: set[int] = set()
        self._faults: dict[int, str] = {}
        self._waiting: list[str] = []
        self._flushed = -1.0
        self._cost = 0.0
        lock = files.open_own(self.path / "lock", os.O_RDWR)
        self._open.append(lock)
        try:
            taken = try_lock(lock, inherited=False)  # worker processes may outlive a killed scan
        except OSError:
            self.close()
            raise
        if not taken:
            self.close()
            raise AuditBusy(
                "only one scan may write an audit",
                f"another process scans into {safe(str(audit))}",
                "wait for it",
            )
        if os.fstat(lock).st_nlink == 0:  # opened just before another scan finished and deleted it
            self.close()
            raise AuditBusy(
                "only one scan may write an audit", "another process has just finished it", "look at it"
            )
        sweep(self.path)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waiting:
            with suppress(OSError):  # what failed has its own error
                self._flush()
        self.close()

    def close(self) -> None:
        """Release the lock and the files; nothing is deleted."""
        for descriptor in reversed(self._open):
            os.close(descriptor)
        self._open.clear()

    def recorded(self) -> dict[str, Any] | None:
        """Return the recipe that the rows were made by; None before `prepare`.

        Raises
        ------
        DamagedAudit
            It cannot be read.
        """
        try:
            return files.read_json(self.path / "recipe.json")
        except FileNotFoundError:
            return None
        except ValueError:
            raise DamagedAudit(
                "an unfinished scan must hold its recipe",
                f"{safe(str(self.path / 'recipe.json'))} is damaged",
                f"delete {safe(str(self.path))}; its work is lost",
            ) from None

    def prepare(
        self,
        recipe: Mapping[str, object],
        n: int,
        dim: int,
        dtype: npt.DTypeLike,
        batch_ranges: list[tuple[int, int]],
    ) -> None:
        """Open the rows for writing: those of an earlier run with the same recipe, or new ones.

        Parameters
        ----------
        recipe : mapping
            Everything that decides the rows, as JSON values.
        n, dim, dtype
            Shape and type of the features.
        batch_ranges : list of (int, int)
            Start and stop of each batch.

        Raises
        ------
        UsageError
            The directory holds rows of another recipe.
        AuditError
            The disk cannot hold the rows.
        """
        found, wanted = self.recorded(), json.loads(json.dumps(recipe))
        if found is not None and found != wanted:
            raise UsageError(
                f"{safe(str(self.path))} can only be resumed with the options of its start",
                "\n".join(_differences(found, wanted)),
                "repeat the first command, choose another -o, or start again with --restart",
            )
        self._shape, self._dtype = (n, dim), np.dtype(dtype)
        self._batch_ranges = batch_ranges
        if found is None:
            for leftover in (
                *self.path.glob("*.raw"),
                *self.path.glob("*.h5"),
                *self.path.glob("*.part"),
                self.path / "log.jsonl",
            ):
                leftover.unlink(missing_ok=True)
        self._features = self._allocate("features.raw", n * dim * self._dtype.itemsize)
        self._facts = self._allocate("facts.raw", n * ROW_DTYPE.itemsize)
        self._log = files.open_own(self.path / "log.jsonl", os.O_RDWR)
        self._open.append(self._log)
        if found is None:
            write_json(self.path / "recipe.json", recipe)
        else:
            self._read_log()

    def _allocate(self, name: str, size: int) -> int:
        descriptor = files.open_own(self.path / name, os.O_RDWR)
        self._open.append(descriptor)
        if size and os.fstat(descriptor).st_size != size:
            try:
                getattr(os, "posix_fallocate", _truncate)(descriptor, 0, size)  # macOS has none
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise AuditError(
                        f"the disk must hold {size / 1e9:.1f} GB for {name} and as much again for audit.h5",
                        f"{safe(str(self.path))}: {error.strerror}",
                        "free space, or choose -o on another disk",
                    ) from None
                os.ftruncate(descriptor, size)  # a file system that cannot preallocate
        return descriptor

    def _read_log(self) -> None:
        content = os.pread(self._log, os.fstat(self._log).st_size, 0)
        complete = content.rfind(b"\n") + 1  # the line being written when it was killed does not count
        os.ftruncate(self._log, complete)
        os.lseek(self._log, complete, os.SEEK_SET)
        starts = dict(self._batch_ranges)
        for line in content[:complete].splitlines():
            try:
                entry = json.loads(line)
                start, stop = entry["start"], entry["stop"]
                faults = {int(index): str(reason) for index, reason in entry["faults"]}
                if starts[start] != stop or not all(start <= index < stop for index in faults):
                    raise KeyError
                whole = self._is_whole(start, stop, entry["sha256"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise DamagedAudit(
                    "the log of an unfinished scan must name its batches",
                    f"{safe(str(self.path / 'log.jsonl'))} holds {safe(line, 80)}",
                    f"delete {safe(str(self.path))}; its work is lost",
                ) from None
            if whole:
                self._done.add(start)
                self._faults.update(faults)

    def _is_whole(self, start: int, stop: int, digest: str) -> bool:
        """Whether the rows of a batch are those that were written, and can be used as they are."""
        dim = self._shape[1]
        size = self._dtype.itemsize * dim
        features = os.pread(self._features, (stop - start) * size, start * size)
        rows = os.pread(self._facts, (stop - start) * ROW_DTYPE.itemsize, start * ROW_DTYPE.itemsize)
        if hashlib.sha256(features + rows).hexdigest() != digest:
            return False
        status = np.frombuffer(rows, ROW_DTYPE)["status"]
        finite = np.isfinite(np.frombuffer(features, self._dtype).reshape(-1, dim)).all(axis=1)
        return bool((status < len(paths.STATUS_NAMES)).all() and finite[status == paths.OK].all())

    @property
    def done(self) -> int:
        """Number of samples in finished batches."""
        return sum(stop - start for start, stop in self._batch_ranges if start in self._done)

    def waiting(self) -> list[tuple[int, int]]:
        """Return the ranges of the remaining batches, in order."""
        return [border for border in self._batch_ranges if border[0] not in self._done]

    def put(self, block: Block) -> None:
        """Take the rows of one batch; they count as finished once they have reached the disk."""
        facts = np.zeros(block.stop - block.start, ROW_DTYPE)
        facts["sha256"], facts["pixels"], facts["status"] = block.sha256, block.pixels, block.status
        features = np.array(block.features, self._dtype, order="C")
        features[block.status != paths.OK] = 0
        _write(self._features, features, block.start * features.itemsize * self._shape[1])
        _write(self._facts, facts, block.start * ROW_DTYPE.itemsize)
        self._faults.update(block.faults)
        self._done.add(block.start)
        digest = hashlib.sha256(features.data)
        digest.update(facts.data)
        entry = {
            "start": block.start,
            "stop": block.stop,
            "faults": block.faults,
            "sha256": digest.hexdigest(),
        }
        self._waiting.append(json.dumps(entry))
        # On a slow disk several batches are flushed together.
        if time.monotonic() - self._flushed >= self._cost / FLUSH_SHARE:
            self._flush()

    def _flush(self) -> None:
        begun = time.monotonic()
        flush = getattr(os, "fdatasync", os.fsync)  # macOS has none
        flush(self._features)
        flush(self._facts)
        _write(self._log, "".join(line + "\n" for line in self._waiting).encode(), None)
        os.fsync(self._log)
        self._waiting.clear()
        self._flushed = time.monotonic()
        self._cost = self._flushed - begun

    def rows(self) -> Rows:
        """Return all rows; every batch must be done."""
        if self._waiting:
            self._flush()
        if missing := len(self.waiting()):
            raise RuntimeError(f"{missing} batches were never put")
        features = np.memmap(self.path / "features.raw", self._dtype, "r", shape=self._shape)
        facts = np.memmap(self.path / "facts.raw", ROW_DTYPE, "r", shape=self._shape[:1])
        plain = np.asarray(facts)
        return Rows(
            np.asarray(features),
            plain["sha256"],
            plain["pixels"],
            plain["status"].copy(),
            dict(sorted(self._faults.items())),
        )

    def step(
        self,
        name: str,
        key: Iterable[object],
        compute: Callable[[], tuple[Mapping[str, Array], Mapping[str, Any]]],
        expected: Mapping[str, Expected],
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays of one step, computed now or by an earlier run from the same inputs.

        Parameters
        ----------
        name : str
            Of the step.
        key : iterable
            Its inputs besides the rows: arrays (by content) and JSON values.
        compute : callable
            Makes the arrays, and what else there is to remember, text and numbers.
        expected : mapping of str to Expected
            What the arrays are.

        Returns
        -------
        arrays : dict
            Memory-mapped from the step's file.
        facts : dict
        """
        path, digest = self.path / f"{name}.h5", _digest(key)
        found = _read_step(path, digest, expected)
        if found is None:
            arrays, remembered = compute()
            facts = json.dumps(dict(remembered))
            attrs = {"key": digest, "facts": facts, "sha256": _digest([facts, *_items(arrays)])}
            write_h5(path, arrays, {"": attrs})
            self.unfinished(name).discard()
            with H5(path) as file:
                found = {entry: file[entry] for entry in file.names()}, json.loads(facts)
        return found

    def unfinished(self, name: str) -> Part:
        """Return the place for the unfinished work of a step; it is cleared when the step is finished.

        Parameters
        ----------
        name : str
            Of the step.
        """
        return Part(self.path / f"{name}.part")

    def finish(
        self, arrays: Mapping[str, Array], attrs: Mapping[str, Mapping[str, Attribute]]
    ) -> tuple[str, str]:
        """Write audit.h5 for `publish`.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Datasets.
        attrs : mapping of str to mapping
            Attributes of groups and datasets.

        Returns
        -------
        digest : str
            SHA-256 of the file.
        uuid : str
            Of the audit.
        """
        path = self.path / paths.AUDIT_FILE
        digest = write_h5(path, arrays, attrs)
        with H5(path) as file:
            return digest, str(file.attrs()["uuid"])

    def publish(self) -> None:
        """Move audit.h5 to its place in one step, then forget the unfinished scan."""
        os.replace(self.path / paths.AUDIT_FILE, self.path.parent / paths.AUDIT_FILE)
        sync_directory(self.path.parent)
        self.discard()

    def discard(self) -> None:
        """Delete everything and release the lock."""
        # The lock goes last: a new scan must not find a directory that is being deleted.
        for entry in list(self.path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != "lock":
                entry.unlink()
        shutil.rmtree(self.path, ignore_errors=True)
        self._waiting.clear()
        self.close()


def _truncate(descriptor: int, offset: int, size: int) -> None:
    os.ftruncate(descriptor, offset + size)


def _read_step(
    path: Path, digest: str, expected: Mapping[str, Expected]
) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """Return what a step's file holds, if it was made from the same inputs and is still what was written."""
    try:
        with H5(path) as file:
            attrs = file.attrs()
            if attrs.get("key") != digest:
                return None
            arrays = {name: file[name] for name in expected}
            facts = attrs["facts"]
            if _digest([facts, *_items(arrays)]) != attrs["sha256"] or not as_expected(arrays, expected):
                return None
            values = json.loads(facts)
    except (AuditError, KeyError, ValueError, TypeError, RecursionError):
        return None
    plain = isinstance(values, dict) and all(
        value is None or isinstance(value, (int, float)) or (isinstance(value, str) and value.isprintable())
        for value in values.values()
    )
    return (arrays, values) if plain else None


def _items(arrays: Mapping[str, Array]) -> Iterator[object]:
    for name in sorted(arrays):
        yield from (name, arrays[name])


def _write(descriptor: int, data: Array | bytes, offset: int | None) -> None:
    view = memoryview(data if isinstance(data, bytes) else data.view(np.uint8).reshape(-1).data)
    while view:
        count = os.write(descriptor, view) if offset is None else os.pwrite(descriptor, view, offset)
        view = view[count:]
        offset = None if offset is None else offset + count


def _digest(key: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for part in key:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += _differences(before, after, f"{prefix}{safe(name, 60)}.")
        elif before != after:
            shown = [safe(json.dumps(value, ensure_ascii=False), 60) for value in (before, after)]
            lines.append(f"{prefix}{safe(name, 60)} was {shown[0]}, and is {shown[1]} now")
    return lines
