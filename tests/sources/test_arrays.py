"""NumPy files: images, embeddings, labels and probabilities."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui.errors import MissingImage, SourceError
from labeltui.sources import Source, SourceOptions, align_probabilities, open_source

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 0, 10])


def aligned_with(source: Source, classes: list[bytes]) -> np.ndarray:
    assert source.pred_probs is not None
    assert source.pred_probs_classes is not None
    return align_probabilities(source.pred_probs, source.pred_probs_classes, source.labels, classes)


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path / "data.npz", **arrays)
    return path / "data.npz"


def test_embeddings_with_integer_labels(tmp_path: Path) -> None:
    source = open_source(npz(tmp_path, embeddings=X, labels=np.array([3, -1, 10, 3])))
    assert source.labels == [b"3", None, b"10", b"3"]
    assert source.ids == [b"0", b"1", b"2", b"3"]
    assert not source.has_images
    np.testing.assert_array_equal(source.embeddings, X)
    assert source.read(1) == X[1].tobytes()
    with pytest.raises(MissingImage, match="no images"):
        source.image(0)


def test_large_arrays_are_mapped_not_loaded(tmp_path: Path) -> None:
    source = open_source(npz(tmp_path, embeddings=X, labels=Y))
    assert isinstance(source.embeddings, np.memmap)
    np.save(tmp_path / "x.npy", np.asfortranarray(X))
    np.save(tmp_path / "y.npy", Y)
    source = open_source(tmp_path / "x.npy", SourceOptions(labels=tmp_path / "y.npy"))
    assert isinstance(source.embeddings, np.memmap)
    assert source.read(2) == X[2].tobytes()


def test_non_finite_embeddings_are_let_through(tmp_path: Path) -> None:
    spoiled = X.copy()
    spoiled[1, 1] = np.nan
    assert np.isnan(open_source(npz(tmp_path, embeddings=spoiled, labels=Y)).embeddings[1, 1])


def test_paths_give_images_to_embeddings(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "a.png")
    path = npz(tmp_path, embeddings=X[:2], labels=Y[:2], paths=np.array(["a.png", "b.png"]))
    source = open_source(path)
    assert source.ids == [b"a.png", b"b.png"]
    assert source.image(0).getpixel((0, 0)) == (1, 2, 3)
    with pytest.raises(MissingImage):
        source.image(1)


def test_labels_from_a_table_bring_ids_and_splits(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X[:2])
    (tmp_path / "y.csv").write_text("path,label,split\np.jpg,cat,train\nq.jpg,,test\n")
    source = open_source(tmp_path / "x.npy", SourceOptions(labels=tmp_path / "y.csv"))
    assert (source.ids, source.labels, source.splits) == (
        [b"p.jpg", b"q.jpg"],
        [b"cat", None],
        ["train", "test"],
    )


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_channels(tmp_path: Path, channels: tuple[int, ...]) -> None:
    images = np.full((2, 3, 5, *channels), 40, np.uint8)
    if channels == (4,):
        images[..., 3] = 255
    source = open_source(npz(tmp_path, images=images, labels=Y[:2]))
    assert source.image(1).size == (5, 3)
    assert source.image(1).getpixel((0, 0)) == (40, 40, 40)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"embeddings": X, "labels": Y[:3]}, "got 3 for 4"),
        ({"embeddings": X}, "must have labels"),
        ({"embeddings": X.astype(int), "labels": Y}, "int64 of shape"),
        ({"embeddings": X[:0], "labels": Y[:0]}, "shape"),
        ({"embeddings": X, "labels": Y.astype(float)}, "whole numbers or strings"),
        ({"embeddings": X, "labels": Y.astype(object)}, "could run code"),
        ({"embeddings": X, "labels": np.full(4, -1)}, "none of the 4 samples"),
        ({"embeddings": X, "labels": Y, "ids": np.array(["a", "b", "a", ""])}, "id of row 0"),
        ({"embeddings": X, "labels": Y, "splits": np.array(["a"])}, "splits have one entry"),
        ({"images": X.reshape(4, 3, 1), "labels": Y}, "scale the values"),
        ({"images": np.zeros((4, 3, 9, 9), np.uint8), "labels": Y}, "transpose"),
        ({"images": np.zeros((4, 9, 9, 2), np.uint8), "labels": Y}, "1, 3 or 4"),
        ({"images": np.zeros((3, 9, 9), np.uint8), "embeddings": X, "labels": Y}, "4 samples"),
        ({"pixels": X, "labels": Y}, "holds pixels, labels"),
        ({"embeddings": np.float32(1), "labels": Y}, "single value"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(npz(tmp_path, **arrays))


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "object"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damaged_files(tmp_path: Path, damage: str, suffix: str) -> None:
    good = npz(tmp_path, embeddings=X, labels=Y)
    np.save(tmp_path / "x.npy", X)
    content = (good if suffix == ".npz" else tmp_path / "x.npy").read_bytes()
    path = tmp_path / f"bad{suffix}"
    if damage == "object":
        np.save(tmp_path / "o.npy", np.array([{}, {}]), allow_pickle=True)
        if suffix == ".npz":
            with zipfile.ZipFile(path, "w") as archive:
                archive.write(tmp_path / "o.npy", "embeddings.npy")
        else:
            path.write_bytes((tmp_path / "o.npy").read_bytes())
    else:
        path.write_bytes(
            {"empty": b"", "cut": content[: len(content) // 2], "garbage": b"\x93NUMPY" * 50}[damage]
        )
    (tmp_path / "y.txt").write_text("0\n1\n0\n1\n")
    with pytest.raises(SourceError, match=r"readable|plain numbers"):
        open_source(path, SourceOptions(labels=tmp_path / "y.txt"))


# --- probabilities ----------------------------------------------------------------------------------------------------

P = np.array([[0.5, 0.25, 0.25], [0, 1, 0], [0.1, 0.2, 0.7], [1, 0, 0]], np.float32)


def with_probabilities(tmp_path: Path, values: np.ndarray, order: list[str] | None) -> object:
    np.save(tmp_path / "p.npy", values)
    path = npz(tmp_path, embeddings=X, labels=Y)
    return open_source(path, SourceOptions(pred_probs=tmp_path / "p.npy", class_order=order))


def test_probabilities_follow_their_class_names(tmp_path: Path) -> None:
    source = with_probabilities(tmp_path, P, ["10", "1", "0"])
    aligned = aligned_with(source, [b"0", b"1", b"10", b"new"])
    np.testing.assert_array_equal(aligned, np.c_[P[:, ::-1], np.zeros(4)].astype(np.float32))
    assert any("in the order of the samples" in note for note in source.notes)


def test_the_order_in_the_file_counts(tmp_path: Path) -> None:
    path = npz(tmp_path, embeddings=X, labels=Y, pred_probs=P, classes=np.array([1, 10, 0]))
    assert open_source(path).pred_probs_classes == [b"1", b"10", b"0"]
    with pytest.raises(SourceError, match="must be the one in the file"):
        open_source(path, SourceOptions(class_order=["0", "1", "10"]))


def test_classes_must_be_those_of_the_labels(tmp_path: Path) -> None:
    source = with_probabilities(tmp_path, P, ["0", "1", "2"])
    with pytest.raises(SourceError) as caught:
        aligned_with(source, [b"0", b"1", b"10"])
    assert "columns of no class: 2" in caught.value.got
    assert "classes without a column: 10" in caught.value.got


@pytest.mark.parametrize(
    ("values", "order", "message"),
    [
        (P, None, "which column is which class"),
        (P, ["0", "1", "1"], "names twice: 1"),
        (P, ["0", "1"], "shape"),
        (P[:3], ["0", "1", "10"], "shape"),
        (P * 2, ["0", "1", "10"], r"row 0 \(0\) sums to 2"),
        (np.where(P == 0, -0.0001, P), ["0", "1", "10"], "least -0.0001"),
        (np.where(P == 1, np.nan, P), ["0", "1", "10"], "sums to nan"),
        (P.astype(int), ["0", "1", "10"], "as floats"),
    ],
)
def test_bad_probabilities(tmp_path: Path, values: np.ndarray, order: list[str] | None, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        with_probabilities(tmp_path, values, order)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,1,0\nb,0,1\nb,0,1\n", "line 4: b is already in line 3"),
        ("a,1,0\n", "no row for b"),
        ("a,1,0\nb,0,1\nc,0,1\n", "no sample c"),
        ("a,1,0\nb,x,1\n", "line 3: could not convert"),
        ("a,1,0\nb,0\n", "2 fields, not 3"),
    ],
)
def test_bad_tables_of_probabilities(tmp_path: Path, rows: str, message: str) -> None:
    path = npz(tmp_path, embeddings=X[:2], labels=Y[:2], ids=np.array(["a", "b"]))
    (tmp_path / "p.csv").write_text("path,0,1\n" + rows)
    with pytest.raises(SourceError, match=message):
        open_source(path, SourceOptions(pred_probs=tmp_path / "p.csv"))
