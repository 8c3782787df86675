"""What an audit's directory must hold, opening it, and its generations."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from labeltui import paths
from labeltui.errors import AuditError, DamagedAudit, NewerFormat, NotAnAudit
from labeltui.io import files
from labeltui.io.atomic import replacing, sha256, sweep, sync_directory
from labeltui.io.h5_reader import H5
from labeltui.io.h5_writer import FROM_CONTENT, Array, Attribute
from labeltui.io.names import Names
from labeltui.store.contents import damaged, require_complete, shape_faults, value_faults
from labeltui.text import safe

FORMAT = 1
"""The newest format of audit.h5 and of a generation that this labeltui reads, and the one it writes."""


# It names files outside the audit (what the UI remembers), so it must not be a path.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Store:
    """The arrays of one generation of an audit.

    A dataset is looked up in the chosen generation first, then in those that it needs (newest first), then in
    the scan.

    Attributes
    ----------
    path : Path
        The directory.
    uuid : str
        Identity of the scan, derived from its content.
    format, generation, n : int
        Format of audit.h5; the generation shown (0 = the scan alone); number of samples.
    ids : Names
        Sample ids, bytes.
    class_ids, class_names, split_names : list
        Class ids (bytes), display names and split names (untrusted: show them through `text.safe`).
    given, status, split : numpy.ndarray
        (n,) int32 class index or -1; (n,) uint8, see `labeltui.paths.STATUS_NAMES`; (n,) int16 split index or -1.
        Read-only.
    """

    def __init__(self, path: Path, opened: dict[int, H5], sizes: Mapping[str, int]) -> None:
        self.path = path
        self._sizes = sizes
        self._files = opened  # newest generation first, the scan last
        self.generation = next(iter(opened))
        root = opened[0].attrs()
        self.uuid: str = root["uuid"]
        self.format: int = root["format"]
        self.given = opened[0]["labels/given"]
        self.status = opened[0]["samples/status"]
        self.split = opened[0]["samples/split"]
        self.n = len(self.given)
        self.ids = self.names("samples/id")
        self.class_ids = list(self.names("classes/id"))
        self.class_names = [os.fsdecode(name) for name in self.names("classes/name")]
        self.split_names = [os.fsdecode(name) for name in self.names("splits/name")]
        self._scan: dict[str, Any] | None = None

    @classmethod
    def open(cls, path: Path, generation: int | None = None) -> Store:
        """Open an audit.

        Parameters
        ----------
        path : Path
            Its directory.
        generation : int, optional
            The generation to show; None or 0 is the scan alone.

        Raises
        ------
        NotAnAudit, NewerFormat, DamagedAudit
            The directory holds none, one of a newer labeltui, or one whose files are incomplete.
        """
        path = Path(path)
        opened: dict[int, H5] = {}
        try:
            _require_audit(path)
            opened[0] = H5(path / paths.AUDIT_FILE)
            root = _check_root(opened[0], "audit")
            sizes = require_complete(opened[0], f"{path.name}/{paths.AUDIT_FILE}")
            waiting = [generation] if generation else []
            while waiting:
                number = waiting.pop()
                if number in opened:
                    continue
                opened[number] = H5(_generation_path(path, number))
                waiting.extend(_check_generation(opened[number], number, root["uuid"], sizes))
            return cls(path, dict(sorted(opened.items(), reverse=True)), sizes)
        except BaseException as error:
            for file in opened.values():
                file.close()
            if isinstance(error, OSError):
                raise AuditError(
                    "an audit must be readable",
                    f"{safe(str(path))}: {error.strerror}",
                    "check its permissions and its disk",
                ) from None
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; arrays already handed out stay valid."""
        for file in self._files.values():
            file.close()

    def at(self, generation: int) -> Store:
        """Open the same audit as another generation shows it."""
        return Store.open(self.path, generation)

    def __contains__(self, name: object) -> bool:
        return any(name in file for file in self._files.values())

    def origin(self, name: str) -> int:
        """Return the generation that an array (or group) comes from.

        Raises
        ------
        KeyError
            No generation has it.
        """
        for number, file in self._files.items():
            if name in file:
                return number
        raise KeyError(name)

    def array(self, name: str) -> Array:
        """Return one array by its path, from the newest generation in view that has it; read-only.

        Raises
        ------
        KeyError
            No generation has it.
        """
        return self._files[self.origin(name)][name]

    def read_ahead(self) -> None:
        """Ask the system to bring into memory what every look at a sample reads; cold disks take 40 ms a page."""
        with contextlib.suppress(DamagedAudit, KeyError):  # closed meanwhile
            for group in ("samples", "labels", "scores", "suggest"):
                for name in self.names_in(group):
                    path = f"{group}/{name}"
                    self._files[self.origin(path)].read_ahead(path)

    def matrix(self, name: str) -> Any:
        """Return a matrix between classes, for example ``csg/T``: an array, or a `scipy.sparse.csr_array`.

        Raises
        ------
        KeyError
            No generation has it.
        """
        if name in self or f"{name}_indptr" not in self:
            return self.array(name)
        from scipy import sparse

        parts = (self.array(f"{name}_{part}") for part in ("data", "indices", "indptr"))
        return sparse.csr_array(tuple(parts), shape=tuple(self.array(f"{name}_shape").tolist()))

    def attrs(self, name: str = "") -> dict[str, Any]:
        """Return the attributes of an array or group from the newest generation in view that has it."""
        return self._files[self.origin(name)].attrs(name)

    def names_in(self, group: str) -> list[str]:
        """Return the names inside a group over all generations in view, sorted."""
        return sorted({name for file in self._files.values() for name in file.names(group)})

    def names(self, name: str) -> Names:
        """Return one list of byte strings, for example ``samples/id``."""
        return Names(self.array(name), self.array(f"{name}_offsets"))

    @property
    def embedding_name(self) -> str:
        """Slug of the embedding shown: attribute ``default`` of ``embeddings``."""
        return str(self.attrs("embeddings")["default"])

    def embedding(self, name: str | None = None) -> Array:
        """Return an embedding, (n, d) float32 or float16; rows that are not ok are not to be used."""
        return self.array(f"embeddings/{name or self.embedding_name}")

    @property
    def scan(self) -> dict[str, Any]:
        """The content of scan.json; empty when the file was lost, since reviewing does not need it."""
        if self._scan is None:
            try:
                self._scan = files.read_json(self.path / paths.SCAN_FILE)
            except FileNotFoundError:
                self._scan = {}
            except (OSError, ValueError) as error:
                raise DamagedAudit("scan.json must be JSON", safe(str(error), 120), "delete it") from None
        return self._scan

    # generations

    def generations(self) -> list[int]:
        """Return the numbers of all generations that exist, ascending, 0 (the scan) included."""
        return [0, *_numbers(self.path)]

    def generation_path(self, number: int) -> Path:
        """Return the file of a generation."""
        return _generation_path(self.path, number)

    def adopt(self, result: Path, after: int = 0) -> int:
        """Make a job's result file the next generation.

        The copy appears in one step. A file that is already a generation is not copied again, so a crash
        between this call and the journal's entry does no harm. Only the holder of the owner lock may call it.

        Parameters
        ----------
        result : Path
            A finished file with root attributes as `generation_attrs` makes them.
        after : int, optional
            Use a number above this one (the journal's newest, should its file have been lost).

        Returns
        -------
        int
            The number of the generation.

        Raises
        ------
        DamagedAudit, NewerFormat
            The file is incomplete, or belongs to another audit.
        """
        with H5(result) as file:
            for needed in _check_generation(file, result.name, self.uuid, self._sizes):
                if needed not in _numbers(self.path):
                    raise DamagedAudit(
                        "a result must build on generations that exist",
                        f"it needs {needed}",
                        "start the job again",
                    )
            for fault in value_faults(file, self._sizes, everything=True):
                raise _damaged_generation(result.name, fault)
        size = result.stat().st_size
        for number in reversed(_numbers(self.path)):
            there = _generation_path(self.path, number)
            if there.stat().st_size == size and filecmp.cmp(there, result, shallow=False):
                return number
        number = max([after, *_numbers(self.path)]) + 1
        target = _generation_path(self.path, number)
        try:
            files.make_directory(target.parent)
        except NotADirectoryError as error:
            raise DamagedAudit(
                f"{paths.DERIVED} must be a directory of the audit", str(error.strerror), ""
            ) from None
        sweep(target.parent)
        with replacing(target) as temporary:
            shutil.copyfile(result, temporary)
            temporary.chmod(stat.S_IMODE(target.parent.stat().st_mode) & 0o666)
        sync_directory(self.path)
        try:
            with self.at(number) as view:
                view.validate()
        except DamagedAudit:
            target.unlink()
            raise
        return number

    def prune(self, keep: Iterable[int] = ()) -> list[int]:
        """Delete the generations that nothing needs any more.

        Kept are the last two, the one shown, those in `keep`, and all that these need. Only the holder of the
        owner lock may call it.

        Returns
        -------
        list of int
            The deleted ones.
        """
        numbers = _numbers(self.path)
        waiting = [*numbers[-2:], self.generation, *keep]
        kept: set[int] = {0}
        while waiting:
            number = waiting.pop()
            if number not in kept and number in numbers:
                kept.add(number)
                # What cannot be read needs nothing that is known; `labeltui check` names it.
                with (
                    contextlib.suppress(DamagedAudit, NewerFormat),
                    H5(_generation_path(self.path, number)) as file,
                ):
                    waiting.extend(_check_generation(file, number, self.uuid, self._sizes))
        gone = [number for number in numbers if number not in kept]
        for number in gone:
            _generation_path(self.path, number).unlink(missing_ok=True)
        return gone

    def validate(self) -> None:
        """Check that everything in view can be used: indices are within the audit, probabilities are numbers.

        Costs some 30 ms for a million samples. What is larger (the graph, the embeddings) is checked where it is used.

        Raises
        ------
        DamagedAudit
            Naming the file and the dataset.
        """
        for number, file in self._files.items():
            for fault in value_faults(file, self._sizes):
                raise _damaged_generation(number, fault) if number else damaged(self._where, fault)
        try:
            graph = f"graph/{self.embedding_name}"
            shapes = {self.array(f"{graph}/{part}").shape for part in ("indices", "similarity")}
            labels, p = self.array("suggest/label"), self.array("suggest/p")
            for part in ("rev_indptr", "rev_indices"):
                self.array(f"{graph}/{part}")
            self.embedding()
        except KeyError as error:
            raise damaged(self._where, f"{safe(str(error.args[0]))} is missing") from None
        if len(shapes) > 1 or labels.shape != p.shape or not labels.shape[1]:
            raise damaged(self._where, "the graph or the suggestions contradict themselves in shape")

    @property
    def _where(self) -> str:
        return f"{self.path.name}/{paths.AUDIT_FILE}"

    def faults(self) -> Iterator[str]:
        """Read all of audit.h5 and yield a description of each fault; scan.json has its checksum."""
        path = self.path / paths.AUDIT_FILE
        try:
            recorded = self.scan.get("sha256")
            # Read before it is mapped: a disk's error in mapped memory ends the process.
            found = sha256(path)
            if recorded and found != recorded:
                yield f"its SHA-256 is {found}, not {safe(str(recorded), 64)} as {paths.SCAN_FILE} says"
            yield from value_faults(self._files[0], self._sizes, everything=True)
        except DamagedAudit as error:
            yield error.got
        except OSError as error:
            yield f"it cannot be read: {error.strerror}"

    def generation_faults(self, path: Path, digest: str = "") -> Iterator[str]:
        """Read all of a generation's file, or of a run's result, and yield what is wrong with it, in words.

        Parameters
        ----------
        path : Path
        digest : str
            The SHA-256 that it must have; empty where none is known.
        """
        try:
            found = sha256(path)
            if digest and found != digest:
                yield f"its SHA-256 is {found}, not {safe(digest, 64)} as the journal says"
            with H5(path) as file:
                for needed in _check_generation(file, path.name, self.uuid, self._sizes):
                    if needed not in _numbers(self.path):
                        yield f"it needs generation {needed}, which is not here"
                yield from value_faults(file, self._sizes, everything=True)
        except AuditError as error:
            yield error.got
        except OSError as error:
            yield f"it cannot be read: {error.strerror}"


def generation_attrs(uuid: str, needs: Iterable[int] = (), **more: Attribute) -> dict[str, Attribute]:
    """Return the root attributes of a generation's file.

    Parameters
    ----------
    uuid : str
        Of the audit it belongs to.
    needs : iterable of int
        Generations whose arrays it builds on and that must stay in view beside it; the scan goes without
        saying.
    **more
        Further attributes, for example ``run="20261120T140000Z-k3fa"``.
    """
    return {"kind": "generation", "format": FORMAT, "uuid": uuid, "needs": sorted({*needs} - {0}), **more}


def audit_attrs(**more: Attribute) -> dict[str, Attribute]:
    """Return the root attributes of audit.h5; its uuid is derived from the content when it is written."""
    return {"kind": "audit", "format": FORMAT, "uuid": FROM_CONTENT, **more}


def _numbers(path: Path) -> list[int]:
    try:
        found = os.listdir(path / paths.DERIVED)
    except FileNotFoundError:
        return []
    stems = (name.removesuffix(".h5") for name in found if name.endswith(".h5"))
    return sorted(
        int(stem) for stem in stems if stem.isascii() and stem.isdigit() and not stem.startswith("0")
    )


def _generation_path(path: Path, number: int) -> Path:
    return path / paths.DERIVED / f"{number}.h5" if number else path / paths.AUDIT_FILE


def _require_audit(path: Path) -> None:
    if (path / paths.AUDIT_FILE).is_file():
        return
    requirement = f"{safe(str(path))} must be an audit, a directory with {paths.AUDIT_FILE}"
    scan = "make one: labeltui scan DATA -o my.audit"
    if not path.exists():
        beside = [each.parent.name for each in path.parent.glob(f"*/{paths.AUDIT_FILE}")]
        close = get_close_matches(path.name, beside, n=1)
        hint = f"did you mean {safe(str(path.with_name(close[0])))}?" if close else scan
        raise NotAnAudit(requirement, "there is no such directory", hint)
    if not path.is_dir():
        hint = f"name its directory: {safe(str(path.parent))}" if path.name == paths.AUDIT_FILE else scan
        raise NotAnAudit(requirement, "it is a file", hint)
    if (path / paths.PARTIAL).is_dir():
        raise NotAnAudit(
            requirement,
            "its scan has not finished",
            "run the same labeltui scan again: it resumes where it stopped",
        )
    inside = sorted(path.glob(f"*/{paths.AUDIT_FILE}"))
    if inside:
        raise NotAnAudit(requirement, "the audit is one level deeper", f"name {safe(str(inside[0].parent))}")
    raise NotAnAudit(
        requirement,
        "it is another directory",
        f"labeltui scan {safe(str(path))} -o my.audit, if it holds the data",
    )


def _check_root(file: H5, kind: str) -> dict[str, Any]:
    root = file.attrs()
    number = root.get("format")
    if root.get("kind") != kind or not isinstance(number, int) or not isinstance(root.get("uuid"), str):
        raise NotAnAudit(
            f"{safe(file.path.name)} must be labeltui's",
            "it is an HDF5 file of another kind",
            "name another directory",
        )
    if not _UUID.fullmatch(root["uuid"]):
        raise DamagedAudit(
            f"{safe(file.path.name)} must carry the uuid of its audit",
            f"{safe(root['uuid'], 80)} is none",
            "copy it again, or scan again",
        )
    if number > FORMAT:
        raise NewerFormat(
            f"this labeltui reads audits up to format {FORMAT}",
            f"{safe(file.path.name)} has format {number}",
            "update it: pip install --upgrade labeltui",
        )
    return root


def _check_generation(file: H5, name: int | str, uuid: str, sizes: Mapping[str, int]) -> list[int]:
    """Refuse a generation that does not belong to the audit, and return those it needs."""
    try:
        root = _check_root(file, "generation")
    except NotAnAudit as error:
        raise DamagedAudit(error.message, error.got, "delete it") from None
    if root["uuid"] != uuid:
        raise DamagedAudit(
            f"generation {name} must belong to this audit", "it was made for another scan", "delete it"
        )
    for fault in shape_faults(file, sizes):
        raise _damaged_generation(name, fault)
    needs = root.get("needs", [])
    if not isinstance(needs, list) or not all(isinstance(number, int) and number > 0 for number in needs):
        raise _damaged_generation(name, "it does not say which generations it needs")
    return needs


def _damaged_generation(name: int | str, got: str) -> DamagedAudit:
    return DamagedAudit(
        f"generation {name} must fit its audit",
        got,
        "labeltui check tells what can be done, or run the job again",
    )
