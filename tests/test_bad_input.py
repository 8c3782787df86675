"""Bad input, as a person meets it who scans: each kind has its own error or its documented handling."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeltui import paths, store
from labeltui.audit import Audit
from labeltui.embed import EmbedSpec
from labeltui.errors import (
    AuditBusy,
    DamagedAudit,
    LabeltuiError,
    ModelError,
    NewerFormat,
    NotAnAudit,
    SourceError,
    UsageError,
)
from labeltui.head import HeadSpec
from labeltui.scanning import ScanOptions, scan, summary
from labeltui.sources import SourceOptions
from labeltui.store import Store
from tests.factories import make_audit


def options(**changes: Any) -> ScanOptions:
    head = HeadSpec(hidden=16, components=16, epochs=2, least_steps=10)
    return ScanOptions(**{"embed": EmbedSpec("pixels", image_size=4, workers=0), "head": head, **changes})


def image(path: Path, seed: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for index in range(12):
        image(tmp_path / "data" / "ab"[index % 2] / f"{index}.png", index)
    return tmp_path / "data"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "x.audit"


def arrays(path: Path, **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(12, 4)).astype(np.float32)
    np.savez(path, **{"embeddings": embeddings, "labels": np.arange(12) % 2, **changes})
    return path


def huge_png(width: int, height: int) -> bytes:
    """A well-formed image of a few kilobytes whose pixels would not fit into memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def refused(kind: type[LabeltuiError], told: str, path: Path, out: Path, /, **changes: Any) -> None:
    """Assert that a scan ends in one clear error and leaves nothing that looks like an audit."""
    with pytest.raises(kind, match=told) as caught:
        scan(path, out, options(**changes))
    assert caught.value.message
    assert caught.value.got or caught.value.hint
    assert not (out / paths.AUDIT_FILE).exists()


class TestSource:
    def test_missing_path(self, tmp_path: Path, out: Path) -> None:
        refused(SourceError, "nowhere", tmp_path / "nowhere", out)
        assert not out.exists()

    def test_empty_folder(self, tmp_path: Path, out: Path) -> None:
        (tmp_path / "empty").mkdir()
        refused(SourceError, "empty", tmp_path / "empty", out)

    def test_folder_without_images(self, tmp_path: Path, out: Path) -> None:
        (tmp_path / "data" / "a").mkdir(parents=True)
        (tmp_path / "data" / "a" / "notes.txt").write_text("no image")
        refused(SourceError, "data", tmp_path / "data", out)

    def test_a_file_of_no_known_kind(self, tmp_path: Path, out: Path) -> None:
        (tmp_path / "x.docx").write_text("?")
        refused(SourceError, r"x\.docx", tmp_path / "x.docx", out)

    def test_one_class_only(self, tmp_path: Path, out: Path) -> None:
        for index in range(4):
            image(tmp_path / "data" / "a" / f"{index}.png", index)
        told = summary(scan(tmp_path / "data", out, options()))
        assert (told.classes, told.flags, told.csg) == (1, 0, 0.0)
        assert any("only one class" in note for note in told.notes)

    def test_class_with_one_sample(self, tree: Path, out: Path) -> None:
        image(tree / "lonely" / "x.png", 99)
        told = summary(scan(tree, out, options()))
        assert any("lonely" in note for note in told.notes)
        with Store.open(out) as opened:
            lonely = opened.ids.index(b"lonely/x.png")
            assert opened.array("scores/blend")[lonely] == 0.5  # nothing can confirm or refute it
            assert opened.array("suggest/label")[lonely, 0] == opened.given[lonely]
            assert not opened.array("csg/reliable")[opened.class_ids.index(b"lonely")]

    def test_fewer_samples_than_k(self, tmp_path: Path, out: Path) -> None:
        for index in range(3):
            image(tmp_path / "data" / "ab"[index % 2] / f"{index}.png", index)
        scan(tmp_path / "data", out, options(k=10))
        with Store.open(out) as opened:
            attrs = opened.attrs(f"graph/{opened.embedding_name}")
        assert (attrs["k"], attrs["csg_k"]) == (2, 2)

    def test_names_that_no_encoding_knows(self, tree: Path, out: Path) -> None:
        strange = b'a/\xff\x1b[31m,"\n.png'
        try:
            (Path(str(tree)) / "a" / "0.png").rename(tree / strange.decode("utf-8", "surrogateescape"))
        except OSError:
            pytest.skip("this file system takes no such names")
        scan(tree, out, options())
        with Store.open(out) as opened:
            assert strange in list(opened.ids)


class TestTable:
    def write(self, tree: Path, rows: list[str], header: str = "path,label") -> Path:
        (tree / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
        return tree / "labels.csv"

    def test_a_path_with_two_labels_is_a_conflict_to_review(self, tree: Path, out: Path) -> None:
        table = self.write(tree, ["a/0.png,a", "b/1.png,b", "a/0.png,b", "a/2.png,a", "b/3.png,b"])
        with Audit.open(scan(table, out, options()), read_only=True) as audit:
            (group,) = audit.conflicts()
            assert sorted(audit.given[group].tolist()) == [0, 1]

    def test_missing_column(self, tree: Path, out: Path) -> None:
        refused(SourceError, "label", self.write(tree, ["a/0.png,a"], "path,class"), out)

    def test_images_that_are_not_there_are_marked(self, tree: Path, out: Path) -> None:
        table = self.write(tree, [*(f"{'ab'[i % 2]}/{i}.png,{'ab'[i % 2]}" for i in range(6)), "gone.png,a"])
        told = summary(scan(table, out, options()))
        assert told.not_ok["unreadable"] == 1
        assert told.faults[0].id == "gone.png"

    def test_labels_absent_from_the_class_list(self, tree: Path, tmp_path: Path, out: Path) -> None:
        # --classes adds classes and forbids none.
        (tmp_path / "classes.txt").write_text("b\nz\n")
        scan(tree, out, options(classes=tmp_path / "classes.txt"))
        with Store.open(out) as opened:
            assert opened.class_ids == [b"a", b"b", b"z"]

    def test_missing_and_broken_class_files(self, tree: Path, tmp_path: Path, out: Path) -> None:
        refused(SourceError, "nowhere", tree, out, classes=tmp_path / "nowhere")
        (tmp_path / "names.csv").write_text("a\n")
        refused(SourceError, r"names\.csv", tree, out, class_names=tmp_path / "names.csv")


class TestArrays:
    def test_nan_and_zero_embeddings_are_marked(self, tmp_path: Path, out: Path) -> None:
        embeddings = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
        embeddings[2, 1], embeddings[5, 0], embeddings[7] = np.nan, np.inf, 0
        told = summary(scan(arrays(tmp_path / "x.npz", embeddings=embeddings), out, options()))
        assert told.not_ok == {"unreadable": 0, "non_finite": 2, "zero": 1}
        assert [fault.index for fault in told.faults] == [2, 5, 7]

    def test_only_nan_embeddings(self, tmp_path: Path, out: Path) -> None:
        embeddings = np.full((12, 4), np.nan, np.float32)
        refused(SourceError, "0 of 12 can be used", arrays(tmp_path / "x.npz", embeddings=embeddings), out)

    def test_pred_probs_of_other_classes(self, tmp_path: Path, out: Path) -> None:
        p = np.full((12, 2), 0.5, np.float32)
        source = arrays(tmp_path / "x.npz", pred_probs=p, classes=np.array(["0", "7"]))
        refused(SourceError, r"columns of no class: 7.*\n.*without a column: 1", source, out)

    def test_pred_probs_without_an_order(self, tmp_path: Path, out: Path) -> None:
        source = arrays(tmp_path / "x.npz", pred_probs=np.full((12, 2), 0.5, np.float32))
        refused(SourceError, "which column is which class", source, out)

    def test_pred_probs_whose_orders_contradict(self, tmp_path: Path, out: Path) -> None:
        p = np.full((12, 2), 0.5, np.float32)
        source = arrays(tmp_path / "x.npz", pred_probs=p, classes=np.array(["0", "1"]))
        refused(SourceError, "class order", source, out, source=SourceOptions(class_order=["1", "0"]))

    def test_pred_probs_that_are_no_probabilities(self, tmp_path: Path, out: Path) -> None:
        source = arrays(
            tmp_path / "x.npz", pred_probs=np.full((12, 2), 3.0, np.float32), classes=np.array(["0", "1"])
        )
        refused(SourceError, "sum to 1", source, out)

    def test_lengths_that_differ(self, tmp_path: Path, out: Path) -> None:
        refused(SourceError, "11", arrays(tmp_path / "x.npz", labels=np.zeros(11, int)), out)

    def test_a_truncated_file(self, tmp_path: Path, out: Path) -> None:
        source = arrays(tmp_path / "x.npz")
        source.write_bytes(source.read_bytes()[:200])
        refused(SourceError, r"x\.npz", source, out)


class TestImages:
    def test_images_that_cannot_be_read_stop_nothing(self, tree: Path, out: Path) -> None:
        whole = image(tree / "a" / "truncated.png", 50, (64, 64))
        whole.write_bytes(whole.read_bytes()[:600])
        (tree / "a" / "empty.jpg").write_bytes(b"")
        (tree / "b" / "text.png").write_text("no image at all")
        (tree / "b" / "huge.png").write_bytes(huge_png(40_000, 40_000))
        told = summary(scan(tree, out, options()))
        assert told.samples == 16
        assert told.not_ok["unreadable"] == 4
        reasons = {fault.id: fault.reason for fault in told.faults}
        assert set(reasons) == {"a/truncated.png", "a/empty.jpg", "b/text.png", "b/huge.png"}
        assert all(reasons.values())
        assert len(set(reasons.values())) == 4  # each says what is wrong with it

    def test_no_readable_image(self, tmp_path: Path, out: Path) -> None:
        for index in range(3):
            path = tmp_path / "data" / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        refused(SourceError, "0 of 3 can be used: 3 x", tmp_path / "data", out)


class TestOptions:
    def test_a_model_that_does_not_exist(self, tree: Path, out: Path) -> None:
        refused(ModelError, "resnet19x", tree, out, embed=EmbedSpec("resnet19x", pretrained=False))

    def test_pixels_take_no_weights(self, tree: Path, out: Path) -> None:
        refused(UsageError, "--checkpoint", tree, out, embed=EmbedSpec("pixels", checkpoint=Path("x")))


class TestAudits:
    def test_a_directory_that_is_no_audit(self, tree: Path) -> None:
        with pytest.raises(NotAnAudit, match="labeltui scan"):
            Audit.open(tree)

    def test_an_audit_of_a_newer_format(self, tmp_path: Path) -> None:
        audit = make_audit(tmp_path, n=30, images=False)
        path = audit / paths.AUDIT_FILE
        import h5py

        with h5py.File(path, "r+") as file:
            file.attrs["format"] = store.FORMAT + 1
        with pytest.raises(NewerFormat, match="update it"):
            Audit.open(audit)

    def test_a_truncated_audit(self, tmp_path: Path) -> None:
        path = make_audit(tmp_path, n=30, images=False) / paths.AUDIT_FILE
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(DamagedAudit):
            Audit.open(path.parent)

    def test_a_second_review(self, tmp_path: Path) -> None:
        audit = make_audit(tmp_path, n=30, images=False)
        code = (
            "import sys; from labeltui.audit import Audit\n"
            "with Audit.open(sys.argv[1], reviewer='first') as audit:\n"
            "    print('open', flush=True); sys.stdin.read()\n"
        )
        first = subprocess.Popen(
            [sys.executable, "-c", code, audit], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(AuditBusy, match="first"):
            Audit.open(audit)
        with Audit.open(audit, read_only=True) as looking:
            assert looking.n == 30
        first.communicate("")
        Audit.open(audit).close()
