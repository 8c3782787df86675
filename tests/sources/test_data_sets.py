"""Data sets in the form that Hugging Face's and torchvision's libraries leave them on the disk."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui.audit import Audit
from labeltui.embed import EmbedSpec
from labeltui.errors import SourceError, UnreadableImage
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import SourceOptions, open_images, open_source
from tests.factories import HEAD

OPTIONS = ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=HEAD)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


# --- Hugging Face -----------------------------------------------------------------------------------------------------


def save_to_disk(directory: Path, n: int, batch: int = 5) -> None:
    """Write what `datasets.Dataset.save_to_disk` writes."""
    pa = pytest.importorskip("pyarrow")
    feature = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata)
    directory.mkdir(parents=True)
    rows = [{"image": {"bytes": png(i), "path": f"{i:02}.png"}, "label": i % 2} for i in range(n)]
    name = "data-00000-of-00001.arrow"
    with pa.ipc.new_stream(str(directory / name), schema) as writer:
        for start in range(0, n, batch):
            writer.write_batch(pa.RecordBatch.from_pylist(rows[start : start + batch], schema))
    (directory / "cache-1.arrow").write_bytes(b"left by a map")
    (directory / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    (directory / "dataset_info.json").write_text("{}")


def test_a_saved_data_set_becomes_an_audit(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "saved", 12)
    scan(tmp_path / "saved", tmp_path / "x.audit", OPTIONS)
    with Audit.open(tmp_path / "x.audit", read_only=True) as audit:
        assert [audit.sample_id(i) for i in (0, 11)] == [b"00.png", b"11.png"]
        assert list(audit.class_ids) == [b"cat", b"dog"]
        assert audit.images.read(7) == png(7)
        assert audit.images.image(11).size == (8, 8)


def test_the_splits_of_a_saved_dictionary(tmp_path: Path) -> None:
    for split, n in (("train", 6), ("test", 2)):
        save_to_disk(tmp_path / "saved" / split, n)
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    source = open_source(tmp_path / "saved")
    assert source.kind == "huggingface"
    assert list(source.splits or ()) == ["train"] * 6 + ["test"] * 2
    assert source.ids[7] == b"test/data-00000-of-00001.arrow/1"  # both splits have a 01.png
    assert source.read(7) == png(1)


def test_saved_data_that_is_cut_off_or_leads_elsewhere(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "saved", 12)
    source = open_source(tmp_path / "saved")
    file = tmp_path / "saved" / "data-00000-of-00001.arrow"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="must be readable"):
        open_source(tmp_path / "saved")
    with pytest.raises(UnreadableImage):
        open_images(source.describe(), tmp_path / "saved").read(source.ids[11], 11)
    for name in ("../x.arrow", "/etc/x.arrow", "\ud800.arrow", "\0"):
        state = {"_data_files": [{"filename": name}]}
        (tmp_path / "saved" / "state.json").write_text(json.dumps(state))
        with pytest.raises(SourceError):
            open_source(tmp_path / "saved")
    with pytest.raises(SourceError, match="names the files"):
        open_images({**source.describe(), "files": ["\ud800.arrow"]}, tmp_path / "saved")


def test_offsets_that_point_out_of_the_file(tmp_path: Path) -> None:
    """Arrow trusts its files; a crafted one must be an error and no crash."""
    save_to_disk(tmp_path / "saved", 12, batch=12)
    file = tmp_path / "saved" / "data-00000-of-00001.arrow"
    content = file.read_bytes()
    lengths = np.cumsum([0] + [len(png(i)) for i in range(12)]).astype("<i4").tobytes()
    at = content.index(lengths)
    source = open_source(tmp_path / "saved")
    file.write_bytes(content[: at + 8] + struct.pack("<i", 1 << 30) + content[at + 12 :])
    with pytest.raises(UnreadableImage):
        open_images(source.describe(), tmp_path / "saved").read(source.ids[2], 2)
    with pytest.raises(SourceError):
        open_source(tmp_path / "saved")


@pytest.mark.parametrize("column", ["label", "path"])
def test_parquet_whose_text_is_not_utf8(tmp_path: Path, column: str) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table(
        {"image": [png(i) for i in range(4)], "label": ["aaaa", "bbbb"] * 2, "path": ["zzz1", "zzz2"] * 2}
    )
    pq.write_table(
        table, tmp_path / "x.parquet", compression=None, use_dictionary=False, write_statistics=False
    )
    content = (tmp_path / "x.parquet").read_bytes()
    old = {"label": b"bbbb", "path": b"zzz2"}[column]
    (tmp_path / "x.parquet").write_bytes(content.replace(old, b"\xff\xff\xff\xff"))
    with pytest.raises(SourceError, match="must be readable"):
        open_source(tmp_path / "x.parquet")


def test_parquet_with_plain_bytes(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "jpg": [png(i) for i in range(6)],
            "other": [b"x"] * 6,
            "label": ["a", "b"] * 3,
            "path": list("uvwxyz"),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    with pytest.raises(SourceError, match="column image of bytes"):
        open_source(tmp_path / "x.parquet")
    source = open_source(tmp_path / "x.parquet", SourceOptions(image_column="jpg"))
    assert list(source.ids) == [b"u", b"v", b"w", b"x", b"y", b"z"]
    assert source.read(5) == png(5)


# --- torchvision ------------------------------------------------------------------------------------------------------


def write_cifar10(home: Path, n: int = 6, protocol: int = 2) -> np.ndarray:
    home.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (6, n, 3072), dtype=np.uint8)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        batch = {b"data": pixels[number], b"labels": [i % 2 for i in range(n)], b"filenames": ["x"] * n}
        (home / name).write_bytes(pickle.dumps(batch, protocol))
    meta = {b"label_names": [b"airplane", b"automobile"], b"num_vis": 3072}
    (home / "batches.meta").write_bytes(pickle.dumps(meta, protocol))
    return pixels


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar10(tmp_path: Path, protocol: int) -> None:
    pixels = write_cifar10(tmp_path / "root" / "cifar-10-batches-py", protocol=protocol)
    source = open_source(tmp_path / "root")
    assert (source.kind, len(source.ids)) == ("torchvision", 36)
    assert source.ids[29] == b"train/29"
    assert source.ids[30] == b"test/0"
    assert source.labels[:2] == [b"airplane", b"automobile"]
    expected = pixels[4, 5].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(source.image(29)), expected)
    scan(tmp_path / "root", tmp_path / "x.audit", OPTIONS)
    with Audit.open(tmp_path / "x.audit", read_only=True) as audit:
        assert np.array_equal(np.asarray(audit.images.image(29)), expected)


def test_cifar100_fine_and_coarse(tmp_path: Path) -> None:
    pixels = np.zeros((4, 3072), np.uint8)
    for name in ("train", "test"):
        batch = {"data": pixels, "fine_labels": [0, 1, 2, 0], "coarse_labels": [0, 0, 1, 0]}
        (tmp_path / name).write_bytes(pickle.dumps(batch, 2))
    meta = {"fine_label_names": ["apple", "pear", "fox"], "coarse_label_names": ["fruit", "mammals"]}
    (tmp_path / "meta").write_bytes(pickle.dumps(meta, 2))
    assert open_source(tmp_path).labels[:4] == [b"apple", b"pear", b"fox", b"apple"]
    coarse = open_source(tmp_path, SourceOptions(label_column="coarse_labels"))
    assert coarse.labels[:4] == [b"fruit", b"fruit", b"mammals", b"fruit"]


def write_idx(file: Path, values: np.ndarray, packed: bool = False) -> None:
    data = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    file.write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("packed", [False, True])
def test_mnist(tmp_path: Path, packed: bool) -> None:
    raw, end = tmp_path / "FashionMNIST" / "raw", ".gz" if packed else ""
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    for name, part in (("train", slice(0, 6)), ("t10k", slice(6, 8))):
        write_idx(raw / f"{name}-images-idx3-ubyte{end}", images[part], packed)
        write_idx(raw / f"{name}-labels-idx1-ubyte{end}", np.arange(8, dtype=np.uint8)[part] % 3, packed)
    source = open_source(tmp_path)
    assert list(source.ids) == [*(b"train/%d" % i for i in range(6)), b"test/0", b"test/1"]
    assert source.labels == [b"0", b"1", b"2"] * 2 + [b"0", b"1"]
    assert np.array_equal(np.asarray(source.image(7))[:, :, 0], images[7])


def test_several_data_sets_are_not_guessed_between(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py")
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    write_idx(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte", np.zeros((2, 4, 4), np.uint8))
    write_idx(tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte", np.zeros(2, np.uint8))
    with pytest.raises(SourceError, match="give the directory of one"):
        open_source(tmp_path)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "x")
    batch, mark = tmp_path / "x" / "data_batch_3", tmp_path / "ran"
    hostile = [
        pickle.dumps({b"data": Evil(mark), b"labels": [0]}),
        b"cos\nsystem\n(S'touch %s'\ntR." % bytes(mark),
        b"(S'touch %s'\nios\nsystem\n." % bytes(mark),
        b"cnumpy\nndarray\n(I1000000000000\ntR.",
        b"Nr\xff\xff\xff\x7f.",  # a memo of two thousand million entries
        pickle.dumps({b"data": np.zeros((2, 3072), np.float64), b"labels": [0, 1]}, 2),
        pickle.dumps({b"data": np.zeros((2, 3072), object), b"labels": [0, 1]}, 2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 7]}, 2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, 2),
        pickle.dumps([1, 2]),
        b"",
        batch.read_bytes()[:-500],
    ]
    for content in hostile:
        batch.write_bytes(content)
        with pytest.raises(SourceError, match="must be whole") as caught:
            open_source(tmp_path / "x")
        assert "data_batch_3" in caught.value.got
        assert not mark.exists()


def test_idx_files_that_state_what_they_have_not(tmp_path: Path) -> None:
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    write_idx(labels, np.zeros(2, np.uint8))
    for content in (
        bytes((0, 0, 8, 3)) + struct.pack(">3I", 1 << 20, 1 << 10, 1 << 10),
        bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 4, 4) + bytes(31),
        bytes((0, 0, 13, 3)) + struct.pack(">3I", 2, 4, 4) + bytes(128),
        b"\0\0\x08",
    ):
        images.write_bytes(content)
        with pytest.raises(SourceError, match="must be whole"):
            open_source(tmp_path)
    images.unlink()
    packed = tmp_path / "train-images-idx3-ubyte.gz"
    write_idx(packed, np.zeros((2, 4, 4), np.uint8), packed=True)
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(SourceError, match="must be whole"):
        open_source(tmp_path)


@pytest.mark.parametrize("place", [b"XXX", b"image"], ids=["label", "name of a column"])
def test_parquet_that_is_not_utf8(tmp_path: Path, place: bytes) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.table({"image": [{"bytes": png(0), "path": "0.png"}], "label": ["aXXXa"]})
    file = tmp_path / "rows.parquet"
    parquet.write_table(table, file, compression=None, use_dictionary=False)
    file.write_bytes(file.read_bytes().replace(place, b"\xff" * len(place)))
    with pytest.raises(SourceError, match="must be readable"):
        open_source(file)
