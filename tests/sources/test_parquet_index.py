"""Images of Parquet files by their places: the bytes that pyarrow reads, however they are stored."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeltui.errors import MissingImage
from labeltui.sources import open_images, open_source, parquet_index, rows
from labeltui.sources.parquet_index import PIECE, load_index, make_index, save_index, snappy_pieces

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

RNG = np.random.default_rng(0)
FAULTS = (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error, RecursionError)


def files(n: int) -> list[bytes | None]:
    """Contents of all kinds: random, as compressed images are, and repeated; short, empty, twice, long, none."""
    made: list[bytes | None] = [RNG.bytes(int(size)) for size in RNG.integers(1, 9000, n)]
    made[3] = made[7] = b""
    made[5] = made[6]
    made[8] = None
    made[9] = RNG.bytes(3 * PIECE + 17)
    made[10] = b"abcdefgh" * 20_000
    made[11] = RNG.bytes(PIECE)
    return made


CONTENTS = files(150)


def table(kind: str, contents: list[bytes | None] = CONTENTS) -> Any:
    labels = pa.array([f"c{i % 3}" for i in range(len(contents))])
    if kind == "bytes":
        return pa.table({"image": pa.array(contents, pa.binary()), "label": labels})
    if kind == "required":
        schema = pa.schema([pa.field("image", pa.binary(), nullable=False), ("label", pa.string())])
        return pa.table([pa.array([each or b"" for each in contents]), labels], schema=schema)
    structs = [{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(contents)]
    image = pa.array(structs, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    if kind == "null structs":
        mask = np.arange(len(contents)) % 10 == 4
        image = pa.StructArray.from_arrays(image.flatten(), fields=list(image.type), mask=pa.array(mask))
    return pa.table({"image": image, "label": labels})


def expected(written: Any) -> list[bytes | None]:
    values = written.column("image").to_pylist()
    return [each["bytes"] if isinstance(each, dict) else each for each in values]


def index_of(path: Path) -> parquet_index.Index:
    with rows.parquet_file(path) as file:
        return make_index(path, file.metadata, file.schema.column(0), 0)


@pytest.mark.parametrize("kind", ["struct", "null structs", "bytes", "required"])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"compression": None},
        {"compression": "zstd"},
        {"compression": "gzip"},
        {"compression": "brotli"},
        {"compression": "lz4"},
        {"use_dictionary": False},
        {"use_dictionary": False, "compression": None},
        {"data_page_version": "2.0"},
        {"data_page_version": "2.0", "compression": None, "use_dictionary": False},
        {"row_group_size": 40},
        {"row_group_size": 40, "data_page_version": "2.0", "compression": "zstd"},
        {"write_batch_size": 4, "dictionary_pagesize_limit": 100_000, "data_page_size": 50_000},
        {"use_content_defined_chunking": True, "write_page_index": True, "write_page_checksum": True},
        {
            "write_batch_size": 4,
            "data_page_size": 20_000,
            "use_dictionary": False,
            "data_page_version": "2.0",
        },
    ],
    ids=lambda how: "-".join(map(str, how.values())) or "default",
)
def test_every_row_is_found(tmp_path: Path, kind: str, how: dict[str, Any]) -> None:
    written = table(kind)
    pq.write_table(written, tmp_path / "x.parquet", **how)
    index = index_of(tmp_path / "x.parquet")
    assert len(index.rows) == len(CONTENTS)
    assert [index.read(tmp_path / "x.parquet", row) for row in range(len(CONTENTS))] == expected(written)


def test_of_snappy_only_the_pieces_of_an_image_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents: list[bytes | None] = [RNG.bytes(20_000) for _ in range(100)]
    pq.write_table(table("struct", contents), tmp_path / "x.parquet")
    index = index_of(tmp_path / "x.parquet")
    asked: list[int] = []
    read = parquet_index.read_range
    monkeypatch.setattr(
        parquet_index,
        "read_range",
        lambda path, start, length: (asked.append(length), read(path, start, length))[1],
    )
    for row in RNG.permutation(100).tolist():
        assert index.read(tmp_path / "x.parquet", row) == contents[row]
    assert max(asked) < 3 * PIECE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        RNG.bytes(10),
        RNG.bytes(5 * PIECE),
        RNG.bytes(5 * PIECE + 1)[:-1] + b"abcd" * 1000,
        RNG.bytes(PIECE) * 3,
    ],
)
def test_pieces_are_compressed_by_themselves(content: bytes) -> None:
    packed = pa.Codec("snappy").compress(content, asbytes=True)
    marks = snappy_pieces(packed, len(content))
    assert marks is not None
    assert len(marks) == -(-len(content) // PIECE)
    for number, start in enumerate(marks):
        part = content[number * PIECE : (number + 1) * PIECE]
        stop = [*marks, len(packed)][number + 1]
        raw = parquet_index._varint(len(part)) + packed[start:stop]
        assert pa.Codec("snappy").decompress(raw, len(part), asbytes=True) == part


def test_pieces_that_are_not_or_are_too_many() -> None:
    joined = bytes([2, 1 << 2]) + b"ab"
    assert snappy_pieces(joined, 2) == [1]
    crossing = parquet_index._varint(PIECE + 8) + bytes([61 << 2]) + struct.pack("<H", PIECE - 5)
    crossing += RNG.bytes(PIECE - 4) + bytes([11 << 2]) + b"x" * 12
    assert snappy_pieces(crossing, PIECE + 8) is None
    scattered = parquet_index._varint(3 * parquet_index.MOST_TAGS) + (b"\0x" * 3 * parquet_index.MOST_TAGS)
    assert snappy_pieces(scattered, 3 * parquet_index.MOST_TAGS) is None


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [png(seed) for seed in range(60)]


def test_previews_read_no_row_group(
    tmp_path: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(table("struct", images), path)  # type: ignore[arg-type]
    source = open_source(path)
    description = json.loads(json.dumps(source.describe()))
    with monkeypatch.context() as patched:
        patched.setattr(rows, "_Group", None)
        opened = open_images(description, source.root)
        assert [opened.read(source.ids[i], i) for i in range(60)] == images
    pq.write_table(table("struct", images[::-1]), path)  # another file in its place has no index
    assert open_images(description, source.root).read(source.ids[0], 0) == images[-1]
    pq.write_table(table("struct", [None, *images[1:]]), path)
    source = open_source(path)
    with pytest.raises(MissingImage, match="holds no image"):
        source.images().read(source.ids[0], 0)


def test_without_an_index_pyarrow_reads(
    tmp_path: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")  # the cache cannot be written
    monkeypatch.setattr(rows, "_MOST_BYTES", 400_000)  # about a batch
    pq.write_table(table("struct", images), tmp_path / "x.parquet")  # type: ignore[arg-type]
    source = open_source(tmp_path / "x.parquet")
    assert load_index(tmp_path / "x.parquet", "image") is None
    opened = source.images()
    for i in (59, 0, 30, 31, 2, 58):
        assert opened.read(source.ids[i], i) == images[i]
        assert sum(each.nbytes for each in opened._kept[0, 0]._read) < 2 * 400_000


def test_an_index_of_another_file_is_not_followed(tmp_path: Path, images: list[bytes]) -> None:
    pq.write_table(table("struct", images), tmp_path / "x.parquet", compression=None)  # type: ignore[arg-type]
    source = open_source(tmp_path / "x.parquet")
    opened = source.images()
    assert opened.read(source.ids[0], 0) == images[0]
    changed = [
        each + b"x" for each in images
    ]  # a process that has the file open sees other bytes at its places
    pq.write_table(table("struct", changed), tmp_path / "x.parquet", compression=None)  # type: ignore[arg-type]
    assert opened.read(source.ids[9], 9) == changed[9]


@pytest.mark.parametrize(("how", "told"), [({"compression": "zstd"}, True), ({}, False)])
def test_slow_previews_are_announced(
    tmp_path: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch, how: dict[str, str], told: bool
) -> None:
    monkeypatch.setattr("labeltui.sources.parquet.SLOW", 1_000_000)
    pq.write_table(table("struct", images), tmp_path / "x.parquet", **how)  # type: ignore[arg-type]
    notes = open_source(tmp_path / "x.parquet").notes
    assert any("a preview reads up to" in note for note in notes) == told


def test_damaged_files_have_no_index_or_one_that_finds_nothing_else(tmp_path: Path) -> None:
    path, written = tmp_path / "x.parquet", table("struct", CONTENTS[12:32])
    for how in ({"data_page_version": "1.0"}, {"data_page_version": "2.0", "compression": None}):
        pq.write_table(written, path, **how)
        with rows.parquet_file(path) as file:
            metadata, leaf, chunk = file.metadata, file.schema.column(0), file.metadata.row_group(0).column(0)
        whole = path.read_bytes()
        begin = chunk.dictionary_page_offset
        headers = [*range(begin, begin + 40), *range(chunk.data_page_offset, chunk.data_page_offset + 80)]
        for at in headers:
            for value in (0, 127, 255):
                damaged = bytearray(whole)
                damaged[at] = value
                path.write_bytes(damaged)
                try:
                    index = make_index(path, metadata, leaf, 0)
                    found = [index.read(path, row) for row in range(len(index.rows))]
                except (*FAULTS, OSError):
                    continue
                assert len(found) == 20
                assert all(each is None or len(each) < len(whole) for each in found)


def test_small_groups_have_no_index(tmp_path: Path, images: list[bytes]) -> None:
    pq.write_table(table("struct", images), tmp_path / "x.parquet", row_group_size=5)  # type: ignore[arg-type]
    with rows.parquet_file(tmp_path / "x.parquet") as file:
        assert 0 < save_index(tmp_path / "x.parquet", file, "image") < parquet_index.SMALL
    assert load_index(tmp_path / "x.parquet", "image") is None
