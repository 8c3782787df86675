"""The files of an audit: same bytes, complete or absent, read without being loaded, faults by name."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given as forall
from hypothesis import strategies as st

from labeltui import paths, store
from labeltui.errors import AuditError, DamagedAudit, InputError, NewerFormat, NotAnAudit
from labeltui.io.atomic import replacing, sha256, sweep, write_json
from labeltui.io.h5_reader import H5
from labeltui.io.h5_writer import FROM_CONTENT, Attribute, Blocks, write_h5
from labeltui.io.names import Names, pack_names
from labeltui.store import Store
from tests.factories import make_audit


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return make_audit(tmp_path, images=False)


def rewrite(audit: Path, *, without: tuple[str, ...] = (), attrs: dict[str, Attribute] | None = None, **new):
    """Write audit.h5 again with some datasets left out or replaced (`a__b` names a/b)."""
    path = audit / paths.AUDIT_FILE
    arrays, attributes = {}, {}
    with H5(path) as file:
        waiting = [""]
        while waiting:
            group = waiting.pop()
            attributes[group] = file.attrs(group)
            for name in file.names(group):
                full = f"{group}/{name}".lstrip("/")
                try:
                    arrays[full] = file[full]
                except KeyError:
                    waiting.append(full)
        attributes[""].update(attrs or {})
        for name in without:
            del arrays[name]
        arrays.update({name.replace("__", "/"): value for name, value in new.items()})
        write_h5(path, arrays, attributes)


def write_result(path: Path, audit: Path, needs=(), arrays=None, **attrs) -> Path:
    with Store.open(audit) as opened:
        root = {**store.generation_attrs(opened.uuid, needs), **attrs}
        default = {"scores/blend": np.full(opened.n, 0.25, np.float32)}
        groups = {"": root}
        if any(name.startswith("embeddings/") for name in arrays or ()):
            groups["embeddings"] = {"default": opened.embedding_name}
        write_h5(path, default if arrays is None else arrays, groups)
    return path


def test_text_attributes_are_plain_strings_for_other_programs(tmp_path: Path) -> None:
    """h5py, h5dump and MATLAB read them as text; the file's bytes stay the same from run to run."""
    files = [tmp_path / f"{number}.h5" for number in range(3)]
    for file in files:
        write_h5(
            file,
            {"a": np.arange(3)},
            {"": {"name": "größe", "list": ["x", "yy"], "uuid": FROM_CONTENT}},
        )
    with h5py.File(files[0]) as opened:
        assert opened.attrs["name"] == "größe"
        assert list(opened.attrs["list"]) == ["x", "yy"]
    assert len({file.read_bytes() for file in files}) == 1


class TestWriting:
    def test_equal_input_gives_equal_bytes(self, tmp_path: Path) -> None:
        arrays = {
            "b/x": np.arange(1000, dtype=np.float32).reshape(50, 20),
            "a": np.arange(3, dtype=np.uint8),
            "empty": np.zeros((0, 4)),
        }
        attrs = {
            "": store.audit_attrs(),
            "b": {"names": ["x", "longer"], "text": "", "n": [1, 2], "none": []},
        }
        first = write_h5(tmp_path / "1.h5", arrays, attrs)
        time.sleep(1.1)  # creation times have a resolution of a second
        second = write_h5(tmp_path / "2.h5", dict(reversed(arrays.items())), dict(reversed(attrs.items())))
        assert first == second == sha256(tmp_path / "2.h5")

    def test_identity_follows_the_content(self, tmp_path: Path) -> None:
        def identity(**arrays: np.ndarray) -> str:
            write_h5(tmp_path / "x.h5", arrays, {"": store.audit_attrs()})
            with H5(tmp_path / "x.h5") as file:
                return str(file.attrs()["uuid"])

        a = np.zeros(8, np.uint8)
        assert identity(a=a) == identity(a=a.copy())
        different = [identity(a=a), identity(b=a), identity(a=a + 1), identity(a=a.view(np.int8))]
        different += [identity(a=a.reshape(2, 4)), identity(a=a[:4], b=a[:4])]
        assert len(set(different)) == len(different)
        assert all(text[14] == "8" and text[19] in "89ab" for text in different)

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        attrs = {
            "g/deep": {
                "t": "Ünï \udcff",
                "f": 1.5,
                "i": -3,
                "b": True,
                "l": ["a", ""],
                "n": [1.0, 2.0],
                "e": [],
            }
        }
        arrays = {"s": np.float64(2.5), "g/u": np.array([True, False]), "f16": np.ones((2, 3), np.float16)}
        write_h5(tmp_path / "x.h5", arrays, attrs)
        with H5(tmp_path / "x.h5") as file:
            assert file.attrs("g/deep") == attrs["g/deep"]
            assert file["s"] == 2.5
            assert file["g/u"].tolist() == [1, 0]
            assert file["f16"].dtype == np.float16
            assert file.names("g") == ["deep", "u"]
            assert "g/u" in file
            assert "nothing" not in file
            with pytest.raises(KeyError):
                file["nothing"]

    def test_blocks_are_put_together(self, tmp_path: Path) -> None:
        whole = np.arange(35, dtype=np.int64).reshape(7, 5)
        pieces = Blocks((7, 5), whole.dtype, lambda: (whole[:3], whole[3:4], whole[4:]))
        assert write_h5(tmp_path / "p", {"x": pieces}) == write_h5(tmp_path / "w", {"x": whole})
        for produced in ([whole[:6]], [whole, whole[:1]], [whole[:, :4]]):
            with pytest.raises(InputError, match="add up"):
                write_h5(tmp_path / "bad", {"x": Blocks((7, 5), whole.dtype, lambda p=produced: p)})
        assert not (tmp_path / "bad").exists()

    def test_text_arrays_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="must hold numbers"):
            write_h5(tmp_path / "x", {"names": np.array(["a", "b"])})
        assert os.listdir(tmp_path) == []

    def test_a_large_array_is_never_in_memory_twice(self, tmp_path: Path) -> None:
        raw = np.lib.format.open_memmap(tmp_path / "raw.npy", "w+", np.float32, (120_000, 256))  # 117 MiB
        raw[::1000] = 1
        raw.flush()
        code = (
            "import sys, numpy as np; from pathlib import Path; from labeltui.io.h5_writer import Blocks, write_h5\n"
            "d = Path(sys.argv[1]); x = np.load(d / 'raw.npy', mmap_mode='r')\n"
            "def status():\n"
            "    lines = open('/proc/self/status')\n"
            "    return int(next(line for line in lines if line.startswith('RssAnon')).split()[1])\n"
            "before = status(); peak = 0\n"
            "def blocks():\n"
            "    global peak\n"
            "    for i in range(0, len(x), 10_000):\n"
            "        yield x[i:i+10_000]; peak = max(peak, status() - before)\n"
            "write_h5(d / 'x.h5', {'e': Blocks(x.shape, x.dtype, blocks), 'f': x})\n"
            "print(max(peak, status() - before))\n"
        )
        if not Path("/proc/self/status").exists():
            pytest.skip("anonymous memory is read from /proc")
        out = subprocess.run(
            [sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True
        )
        assert int(out.stdout) < 40_000  # kB, of 117 MiB

    def test_a_killed_writer_leaves_no_file(self, tmp_path: Path) -> None:
        code = (
            "import sys, numpy as np; from pathlib import Path; from labeltui.io.h5_writer import Blocks, write_h5\n"
            "def blocks():\n"
            "    yield np.zeros((1, 10)); print('half', flush=True); sys.stdin.read()\n"
            "write_h5(Path(sys.argv[1]), {'x': Blocks((2, 10), np.dtype(float), blocks)})\n"
        )
        target = tmp_path / "x.h5"
        child = subprocess.Popen(
            [sys.executable, "-c", code, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert not target.exists()
        assert len(os.listdir(tmp_path)) == 1
        sweep(tmp_path)
        assert os.listdir(tmp_path) == []

    def test_a_failed_replacement_keeps_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.json"
        write_json(path, {"a": 1})

        def fail() -> None:
            with replacing(path) as temporary:
                temporary.write_text("half")
                raise RuntimeError("disk")

        with pytest.raises(RuntimeError, match="disk"):
            fail()
        assert json.loads(path.read_text()) == {"a": 1}
        assert os.listdir(tmp_path) == ["x.json"]


class TestReading:
    def test_arrays_are_views_of_the_file(self, audit: Path) -> None:
        opened = Store.open(audit)
        embedding = opened.embedding()
        assert embedding.ctypes.data % 64 == 0
        assert not embedding.flags.writeable
        if not Path("/proc/self/maps").exists():
            pytest.skip("what is mapped is read from /proc")
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "audit.h5" in line]
        ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in mapped]
        assert any(low <= embedding.ctypes.data < high for low, high in ranges)
        opened.close()
        assert embedding.sum() == embedding.copy().sum()  # still mapped

    def test_chunked_and_unwritten_arrays_are_read(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_dataset("chunked", data=np.arange(10), chunks=(3,))
            file.create_dataset("unwritten", shape=(4,), dtype="f4", fillvalue=7)
        with H5(tmp_path / "x.h5") as file:
            assert file["chunked"].tolist() == list(range(10))
            assert file["unwritten"].tolist() == [7] * 4
            with pytest.raises(ValueError, match="read-only"):
                file["chunked"][0] = 1

    def test_a_reader_neither_locks_nor_writes(self, audit: Path) -> None:
        os.chmod(audit / paths.AUDIT_FILE, 0o444)
        os.chmod(audit, 0o555)
        try:
            with Store.open(audit) as one, Store.open(audit) as two:
                assert one.uuid == two.uuid
        finally:
            os.chmod(audit, 0o755)

    @forall(st.lists(st.binary(min_size=1, max_size=6), max_size=40))
    def test_names_are_a_list_of_bytes(self, names: list[bytes]) -> None:
        packed = pack_names("x", names)
        found = Names(packed["x"], packed["x_offsets"])
        assert list(found) == names
        assert [found[i] for i in range(len(found))] == names
        assert found[-2:] == names[-2:]
        assert found.indices([*names, b"absent!"]).tolist() == [
            *(max(i for i, other in enumerate(names) if other == name) for name in names),
            -1,
        ]
        for name in names:
            assert found.index(name) == names.index(name)
        with pytest.raises(ValueError, match="not in the list"):
            found.index(b"absent!")

    def test_undecodable_names_survive(self, audit: Path) -> None:
        strange = b'\xff\xfe/\x1b[31m\n,".png'
        with Store.open(audit) as opened:
            names = list(opened.ids)
        names[7] = strange
        packed = pack_names("samples/id", names)
        rewrite(audit, samples__id=packed["samples/id"], samples__id_offsets=packed["samples/id_offsets"])
        with Store.open(audit) as opened:
            assert opened.ids[7] == strange
            assert opened.ids.index(strange) == 7

    def test_a_million_samples_open_in_milliseconds(self, tmp_path: Path) -> None:
        n, k, classes = 1_281_167, 4, 1000
        names = [b"%04d" % c for c in range(classes)]
        widths = np.full(n, 28, np.int64)

        def zeros(dtype: str, *shape: int) -> Blocks:
            kind = np.dtype(dtype)
            steps = [slice(a, min(a + 100_000, shape[0])) for a in range(0, shape[0], 100_000)]
            return Blocks(
                shape, kind, lambda: (np.zeros((s.stop - s.start, *shape[1:]), kind) for s in steps)
            )

        arrays: dict[str, np.ndarray | Blocks] = {
            "samples/id": zeros("u1", 28 * n),
            "samples/id_offsets": np.r_[0, np.cumsum(widths)],
            **pack_names("classes/id", names),
            **pack_names("classes/name", names),
            **pack_names("splits/name", [b"train"]),
            "samples/split": zeros("i2", n),
            "samples/sha256": zeros("u1", n, 32),
            "samples/status": zeros("u1", n),
            "labels/given": zeros("i4", n),
            "embeddings/e": zeros("f2", n, 8),
            "graph/e/indices": zeros("i4", n, k),
            "graph/e/similarity": zeros("f4", n, k),
            "graph/e/rev_indptr": zeros("i8", n + 1),
            "graph/e/rev_indices": zeros("i4", n * k),
            "groups/duplicate": zeros("i4", n),
            "csg/T": zeros("i8", classes, classes),
            "scores/blend": zeros("f4", n),
            "suggest/label": zeros("i4", n, 5),
            "suggest/p": zeros("f4", n, 5),
        }
        (tmp_path / "big").mkdir()
        write_h5(
            tmp_path / "big" / paths.AUDIT_FILE,
            arrays,
            {"": store.audit_attrs(), "embeddings": {"default": "e"}},
        )
        seconds, growth = [], []
        for _ in range(5):
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
            with Store.open(tmp_path / "big") as opened:
                seconds.append(time.perf_counter() - start)
                growth.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
                assert opened.n == n
        assert min(seconds) < 0.05  # 5 ms on a quiet machine
        start = time.perf_counter()
        with pytest.raises(ValueError, match="not in the list"):
            opened.ids.index(b"x" * 28)
        assert time.perf_counter() - start < 0.5


class TestFaults:
    def test_what_is_no_audit_is_told(self, tmp_path: Path, audit: Path) -> None:
        with pytest.raises(NotAnAudit, match="no such directory"):
            Store.open(tmp_path / "missing")
        (tmp_path / "images").mkdir()
        with pytest.raises(NotAnAudit, match="labeltui scan"):
            Store.open(tmp_path / "images")
        with pytest.raises(NotAnAudit, match="name its directory"):
            Store.open(audit / paths.AUDIT_FILE)
        with pytest.raises(NotAnAudit, match="one level deeper"):
            Store.open(tmp_path)
        (tmp_path / "half" / paths.PARTIAL).mkdir(parents=True)
        with pytest.raises(NotAnAudit, match="has not finished"):
            Store.open(tmp_path / "half")
        with h5py.File(tmp_path / "images" / paths.AUDIT_FILE, "w") as file:
            file["x"] = [1]
        with pytest.raises(NotAnAudit, match="another kind"):
            Store.open(tmp_path / "images")

    def test_a_newer_format_is_named(self, audit: Path) -> None:
        rewrite(audit, attrs={"format": store.FORMAT + 1})
        with pytest.raises(NewerFormat, match=rf"format {store.FORMAT + 1}.*update"):
            Store.open(audit)

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
    def test_a_truncated_file_is_damaged(self, audit: Path, share: float) -> None:
        path = audit / paths.AUDIT_FILE
        os.truncate(path, int(share * path.stat().st_size))
        with pytest.raises(DamagedAudit, match="bytes"):
            Store.open(audit)

    def test_reading_ahead_leaves_faults_to_the_reader(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5"
        write_h5(path, {"g/a": np.arange(5000), "g/sub/c": np.arange(3), "g/z": np.zeros(100_000)})
        opened = H5(path)
        for name in ("g/a", "g/sub", "absent"):
            opened.read_ahead(name)
        assert opened["g/a"].sum() == 4999 * 2500
        opened = H5(path)
        opened._size -= 8  # as if the file shrank after HDF5 had looked
        opened.read_ahead("g/z")
        with pytest.raises(DamagedAudit, match="8 bytes too early"):
            opened["g/z"]

    def test_reading_ahead_of_a_closed_audit_is_nothing(self, audit: Path) -> None:
        opened = Store.open(audit)
        opened.read_ahead()
        assert opened.array("scores/blend").sum() > 0
        opened.close()
        opened.read_ahead()

    def test_a_file_that_is_deleted_meanwhile_stays_readable(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5"
        write_h5(path, {"x": np.arange(1000)})
        with H5(path) as opened:
            path.unlink()
            assert opened["x"].sum() == 499_500

    def test_an_array_beyond_the_end_is_damaged(self, tmp_path: Path) -> None:
        path = tmp_path / "x.h5"
        write_h5(path, {"x": np.zeros(100_000)})
        opened = H5(path)
        opened._size -= 8  # as if the file shrank after HDF5 had looked
        with pytest.raises(DamagedAudit, match="8 bytes too early"):
            opened["x"]

    @pytest.mark.parametrize(
        "name",
        ["labels/given", "samples/status", "graph/given/indices", "embeddings/given", "classes/id_offsets"],
    )
    def test_a_missing_array_is_named(self, audit: Path, name: str) -> None:
        rewrite(audit, without=(name,))
        with pytest.raises(DamagedAudit, match=f"{name} is missing"):
            Store.open(audit)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("samples__status", np.zeros(3, np.uint8)),
            ("graph__given__indices", np.zeros((240, 3), np.int32)),
            ("scores__blend", np.zeros(240, np.int32)),
            ("labels__given", np.full(240, 4, np.int32)),
            ("samples__id_offsets", np.arange(241, dtype=np.int64)),
            ("csg__T", np.zeros((5, 5), np.int64)),
        ],
    )
    def test_arrays_that_contradict_are_damaged(self, audit: Path, name: str, value: np.ndarray) -> None:
        rewrite(audit, **{name: value})
        with pytest.raises(DamagedAudit), Store.open(audit) as opened:
            opened.validate()

    def test_a_changed_byte_is_found(self, audit: Path) -> None:
        with Store.open(audit) as opened:
            assert list(opened.faults()) == []
        path = audit / paths.AUDIT_FILE
        with h5py.File(path, "r+") as file:
            file["embeddings/given"][3, 4] += 1
        with Store.open(audit) as opened:
            (fault,) = opened.faults()
        assert "SHA-256" in fault

    def test_broken_bytes_anywhere_are_reported_or_harmless(self, tmp_path: Path) -> None:
        audit = make_audit(tmp_path, n=30, images=False)
        path = audit / paths.AUDIT_FILE
        original, rng, damaged = path.read_bytes(), np.random.default_rng(0), 0
        for _ in range(150):
            content = np.frombuffer(original, np.uint8).copy()
            places = rng.integers(len(content), size=rng.choice([1, 5, 50]))
            content[places] = rng.integers(256, size=len(places))
            path.write_bytes(content.tobytes())
            try:
                with Store.open(audit) as opened:
                    opened.embedding().sum()
                    opened.attrs("csg")
                    for name in opened.names_in("scores"):
                        opened.array(f"scores/{name}").sum()
            except AuditError:  # nothing else may come out of any broken byte
                damaged += 1
        assert damaged > 20

    def test_a_lost_scan_json_does_no_harm_and_a_broken_one_is_named(self, audit: Path) -> None:
        (audit / paths.SCAN_FILE).write_text("{")
        with Store.open(audit) as opened, pytest.raises(DamagedAudit, match=r"scan\.json"):
            _ = opened.scan
        (audit / paths.SCAN_FILE).unlink()
        with Store.open(audit) as opened:
            assert opened.scan == {}
            assert list(opened.faults()) == []


class TestGenerations:
    def test_a_generation_shadows_the_scan(self, audit: Path, tmp_path: Path) -> None:
        with Store.open(audit) as scan:
            number = scan.adopt(write_result(tmp_path / "r.h5", audit))
            assert number == 1
            assert scan.generations() == [0, 1]
            assert scan.array("scores/blend").max() > 0.25  # the scan still shows itself
            with scan.at(1) as newer:
                assert newer.generation == 1
                assert set(newer.array("scores/blend").tolist()) == {0.25}
                assert newer.origin("scores/blend") == 1
                assert newer.origin("scores/head") == 0
                assert newer.embedding().shape == scan.embedding().shape
                assert newer.uuid == scan.uuid
                assert "scores/head" in newer
                assert "scores/nothing" not in newer
                assert newer.at(0).array("scores/blend").tolist() == scan.array("scores/blend").tolist()

    def test_a_view_holds_what_it_needs_and_nothing_else(self, audit: Path, tmp_path: Path) -> None:
        n = 240
        with Store.open(audit) as opened:
            for number, needs, arrays in [
                (1, (), {"embeddings/new": np.ones((n, 3), np.float32), "scores/a": np.zeros(n, np.float32)}),
                (2, (1,), {"scores/b": np.zeros(n, np.float32)}),
                (3, (2,), {"scores/a": np.ones(n, np.float32)}),
                (4, (), {"scores/c": np.zeros(n, np.float32)}),
            ]:
                assert opened.adopt(write_result(tmp_path / f"{number}.h5", audit, needs, arrays)) == number
            view = opened.at(3)
            assert set(view.names_in("scores")) == {"a", "b", *opened.names_in("scores")}
            assert view.array("scores/a").min() == 1
            assert view.embedding("new").shape == (n, 3)
            assert "embeddings/new" not in opened.at(4)

    def test_prune_keeps_the_last_two_and_all_they_need(self, audit: Path, tmp_path: Path) -> None:
        with Store.open(audit) as opened:
            for number, needs in [(1, ()), (2, (1,)), (3, ()), (4, ()), (5, (2,)), (6, ())]:
                arrays = {"scores/x": np.full(240, number / 8, np.float32)}
                opened.adopt(write_result(tmp_path / f"{number}.h5", audit, needs, arrays))
            assert opened.prune(keep=[3]) == [4]
            assert opened.generations() == [0, 1, 2, 3, 5, 6]
            assert opened.prune() == [3]
            assert opened.at(5).array("scores/x")[0] == 5 / 8

    def test_adopting_twice_makes_one_generation(self, audit: Path, tmp_path: Path) -> None:
        result = write_result(tmp_path / "r.h5", audit)
        with Store.open(audit) as opened:
            assert opened.adopt(result) == opened.adopt(result) == 1
            other = write_result(tmp_path / "s.h5", audit, run="b")
            assert opened.adopt(other, after=7) == 8
            assert sha256(opened.generation_path(8)) == sha256(other)

    def test_foreign_and_broken_results_are_refused(self, audit: Path, tmp_path: Path) -> None:
        foreign = write_result(tmp_path / "1.h5", audit, uuid="00000000-0000-8000-8000-000000000000")
        short = write_result(tmp_path / "2.h5", audit, arrays={"scores/x": np.zeros(5, np.float32)})
        orphan = write_result(tmp_path / "3.h5", audit, needs=(9,))
        newer = write_result(tmp_path / "4.h5", audit, format=99)
        truncated = write_result(tmp_path / "5.h5", audit)
        os.truncate(truncated, 500)
        with Store.open(audit) as opened:
            for result, kind, match in [
                (foreign, DamagedAudit, "another scan"),
                (short, DamagedAudit, r"shape \(5,\)"),
                (orphan, DamagedAudit, "needs 9"),
                (newer, NewerFormat, "format 99"),
                (truncated, DamagedAudit, "500 bytes"),
                (tmp_path / "none.h5", DamagedAudit, "missing"),
            ]:
                with pytest.raises(kind, match=match):
                    opened.adopt(result)
            assert opened.generations() == [0]

    def test_a_lost_generation_is_named(self, audit: Path, tmp_path: Path) -> None:
        with Store.open(audit) as opened:
            opened.adopt(write_result(tmp_path / "r.h5", audit))
        shutil.rmtree(audit / paths.DERIVED)
        with pytest.raises(DamagedAudit, match=r"1\.h5.*missing"):
            Store.open(audit, 1)

    def test_stray_files_are_no_generations(self, audit: Path, tmp_path: Path) -> None:
        (audit / paths.DERIVED).mkdir()
        for name in ("x.h5", "01.h5", ".2.h5.abc.tmp", "3.txt", "-4.h5"):
            (audit / paths.DERIVED / name).write_bytes(b"")
        with Store.open(audit) as opened:
            assert opened.generations() == [0]
            assert opened.adopt(write_result(tmp_path / "r.h5", audit)) == 1
        assert not (audit / paths.DERIVED / ".2.h5.abc.tmp").exists()
