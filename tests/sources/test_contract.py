"""What holds for every kind of source, and that a new kind must pass."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui.errors import SourceError
from labeltui.sources import Source, SourceOptions, open_images, open_source, reopen_source

Maker = Callable[[Path], tuple[Path, SourceOptions]]
COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
LABELS = ["b", "a", "b", "a"]


def pixels() -> np.ndarray:
    return np.stack([np.full((6, 4, 3), colour, np.uint8) for colour in COLOURS])


def make_folder(path: Path) -> tuple[Path, SourceOptions]:
    for number, (image, label) in enumerate(zip(pixels(), LABELS, strict=True)):
        (path / "tree" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / "tree" / label / f"{number}.png")
    return path / "tree", SourceOptions()


def make_table(path: Path) -> tuple[Path, SourceOptions]:
    (path / "images").mkdir(parents=True)
    lines = ["file;class"]
    for number, (image, label) in enumerate(zip(pixels(), LABELS, strict=True)):
        Image.fromarray(image).save(path / "images" / f"{number}.png")
        lines.append(f"{number}.png;{label}")
    (path / "list").mkdir()
    (path / "list" / "labels.csv").write_text("\n".join(lines))
    options = SourceOptions(path_column="file", label_column="class", image_root=path / "images")
    return path / "list" / "labels.csv", options


def make_npy(path: Path) -> tuple[Path, SourceOptions]:
    path.mkdir(exist_ok=True)
    np.save(path / "images.npy", pixels())
    (path / "labels.txt").write_text("\n".join(LABELS))
    return path / "images.npy", SourceOptions(labels=path / "labels.txt")


def make_npz(path: Path) -> tuple[Path, SourceOptions]:
    path.mkdir(exist_ok=True)
    np.savez(
        path / "data.npz", images=pixels(), labels=np.array(LABELS), splits=np.array(["x", "y", "x", ""])
    )
    return path / "data.npz", SourceOptions()


def make_compressed(path: Path) -> tuple[Path, SourceOptions]:
    path.mkdir(exist_ok=True)
    np.savez_compressed(
        path / "data.npz", images=pixels(), labels=np.array(LABELS), ids=np.array(list("wxyz"))
    )
    return path / "data.npz", SourceOptions()


def make_parquet(path: Path) -> tuple[Path, SourceOptions]:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path.mkdir(exist_ok=True)
    rows = []
    for number, image in enumerate(pixels()):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        rows.append({"bytes": file.getvalue(), "path": f"{number}.png"})
    for split, part in (("train", slice(0, 3)), ("test", slice(3, 4))):
        table = pa.table({"image": rows[part], "label": LABELS[part]})
        pq.write_table(table, path / f"{split}-00000-of-00001.parquet", row_group_size=2)
    return path, SourceOptions()


def members() -> dict[str, bytes]:
    """The images as files of a tree, in another order than that of their names."""
    found = {}
    for number, (image, label) in enumerate(zip(pixels(), LABELS, strict=True)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        found[f"{label}/{number}.png"] = file.getvalue()
    return found


def make_zip(path: Path) -> tuple[Path, SourceOptions]:
    path.mkdir(exist_ok=True)
    with zipfile.ZipFile(path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members().items():
            archive.writestr(name, data)
    return path / "data.zip", SourceOptions()


def make_tar(path: Path) -> tuple[Path, SourceOptions]:
    path.mkdir(exist_ok=True)
    with tarfile.open(path / "data.tar", "w") as archive:
        for name, data in members().items():
            add_member(archive, name, data)
    return path / "data.tar", SourceOptions()


def make_webdataset(path: Path) -> tuple[Path, SourceOptions]:
    path.mkdir(exist_ok=True)
    for shard, part in (("train-0.tar", slice(0, 3)), ("test-0.tar", slice(3, 4))):
        with tarfile.open(path / shard, "w") as archive:
            for name, data in list(members().items())[part]:
                label, file = name.split("/")
                add_member(archive, file, data)
                add_member(archive, file.replace("png", "json"), json.dumps({"label": label}).encode())
    return path, SourceOptions()


def add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def make_saved(path: Path) -> tuple[Path, SourceOptions]:
    pa = pytest.importorskip("pyarrow")
    rows = [
        {"image": {"bytes": data, "path": name.split("/")[1]}, "label": name.split("/")[0]}
        for name, data in members().items()
    ]
    table = pa.Table.from_pylist(rows)
    for split, part in (("train", table.slice(0, 3)), ("test", table.slice(3))):
        (path / split).mkdir(parents=True)
        with pa.ipc.new_stream(str(path / split / "data-00000-of-00001.arrow"), part.schema) as writer:
            writer.write_table(part)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        (path / split / "state.json").write_text(json.dumps(state))
    (path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return path, SourceOptions()


MAKERS = [
    make_saved,
    make_zip,
    make_tar,
    make_webdataset,
    make_parquet,
    make_folder,
    make_table,
    make_npy,
    make_npz,
    make_compressed,
]


@pytest.fixture(params=MAKERS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Source, Path]:
    path, options = request.param(tmp_path / "data")
    return open_source(path, options), tmp_path / "data"


def test_lists_fit_together(opened: tuple[Source, Path]) -> None:
    source, _ = opened
    assert len(source.ids) == len(source.labels) == len(set(source.ids)) == 4
    assert all(isinstance(name, bytes) for name in [*source.ids, *source.labels])
    assert sorted(source.labels) == [b"a", b"a", b"b", b"b"]
    assert source.splits is None or len(source.splits) == 4
    assert source.has_images
    assert source.embeddings is None


def test_images_belong_to_their_labels(opened: tuple[Source, Path]) -> None:
    source, _ = opened
    found = {(source.image(index).getpixel((0, 0)), source.labels[index]) for index in range(4)}
    assert found == {(colour, label.encode()) for colour, label in zip(COLOURS, LABELS, strict=True)}
    assert all(source.image(index).mode == "RGB" and source.image(index).size == (4, 6) for index in range(4))


def test_read_returns_the_stored_bytes(opened: tuple[Source, Path]) -> None:
    source, _ = opened
    contents = {hashlib.sha256(source.read(index)).digest() for index in range(4)}
    assert len(contents) == 4
    assert all(isinstance(source.read(index), bytes) for index in range(4))


def test_it_reopens_where_it_moved_to(opened: tuple[Source, Path], tmp_path: Path) -> None:
    source, home = opened
    description = json.loads(json.dumps(source.describe()))
    moved = tmp_path / "elsewhere"
    shutil.move(home, moved)
    root = moved / source.root.relative_to(home)
    again = reopen_source(description, root)
    assert (again.kind, again.ids, again.labels, again.splits) == (
        source.kind, source.ids, source.labels, source.splits
    )  # fmt: skip
    assert again.image(1).tobytes() == open_images(description, root).image(source.ids[1], 1).tobytes()


def test_images_survive_a_process_border(opened: tuple[Source, Path]) -> None:
    source, _ = opened
    there = pickle.loads(pickle.dumps(source.images()))
    assert there.image(source.ids[2], 2).tobytes() == source.image(2).tobytes()
    assert len(pickle.dumps(source.images())) < 1000


def test_the_order_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = (open_source(*make_folder(tmp_path / name)) for name in "pq")
    assert first.ids == second.ids == [b"a/1.png", b"a/3.png", b"b/0.png", b"b/2.png"]


@pytest.mark.parametrize("description", [{}, {"image_store": "holograms"}, {"image_store": "array"}])
def test_descriptions_that_say_too_little(description: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        open_images(description, tmp_path)
