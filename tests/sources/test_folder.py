"""Image trees."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from labeltui.errors import MissingImage, SourceError, UnreadableImage, UsageError
from labeltui.sources import SourceOptions, open_source


def tree(root: Path, *names: str | bytes) -> Path:
    """Empty files: a source lists them without looking inside."""
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    return root


def test_classes_are_the_top_directories_at_any_depth(tmp_path: Path) -> None:
    source = open_source(tree(tmp_path, "cat/x/y/1.jpg", "cat/2.JPG", "dog/z/3.webp", "a-b/4.png", "a/5.png"))
    assert source.ids == [b"a-b/4.png", b"a/5.png", b"cat/2.JPG", b"cat/x/y/1.jpg", b"dog/z/3.webp"]
    assert source.labels == [b"a-b", b"a", b"cat", b"cat", b"dog"]
    assert source.splits is None


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train/cat/1.jpg", "Val/cat/2.jpg"], ["Val", "train"]),
        (["TEST/cat/1.jpg"], ["TEST"]),
        (["training/cat/1.jpg", "eval/dog/2.jpg", "dev/dog/3.jpg"], ["dev", "eval", "training"]),
        (["train2017/cat/1.jpg", "val2017/cat/2.jpg"], ["train2017", "val2017"]),
        (["training_set/cat/1.jpg", "test-images/dog/2.jpg"], ["test-images", "training_set"]),
        (["train/cat/1.jpg", "test/cat/2.jpg", "unlabeled/3.jpg"], ["test", "train"]),
        (["train/cat/1.jpg", "val/cat/2.jpg", "test/3.jpg"], ["train", "val"]),
        (["train/cat/1.jpg", "test/cat/2.jpg", "__MACOSX/train/cat/3.jpg"], ["test", "train"]),
    ],
)
def test_when_a_split_level_is_assumed(tmp_path: Path, names: list[str], splits: list[str]) -> None:
    source = open_source(tree(tmp_path, *names))
    assert source.splits is not None
    assert sorted(set(source.splits)) == splits
    assert set(source.labels) <= {b"cat", b"dog"}
    assert any(f"taken as splits: {', '.join(splits)}" in note for note in source.notes)
    for top in {name.split("/")[0] for name in names} - set(splits):
        assert any(top in note and "left out" in note for note in source.notes)


@pytest.mark.parametrize(
    "names",
    [
        ["car/1.jpg", "train/2.jpg", "bus/3.jpg"],
        ["car/old/1.jpg", "train/steam/2.jpg", "bus/3.jpg"],
        ["cat/images/1.jpg", "dog/images/2.jpg"],  # as splits they would hold a single class
        ["cat/train/1.jpg", "cat/test/2.jpg", "dog/train/3.jpg", "dog/test/4.jpg"],
    ],
)
def test_classes_that_are_no_splits(tmp_path: Path, names: list[str]) -> None:
    source = open_source(tree(tmp_path, *names))
    assert source.splits is None
    assert set(source.labels) == {os.fsencode(name.split("/")[0]) for name in names}


def test_classes_named_like_splits_are_noted(tmp_path: Path) -> None:
    source = open_source(tree(tmp_path, "train/1.jpg", "test/2.jpg"))
    assert source.splits is None
    assert any("named like splits" in note for note in source.notes)


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["train/cat/1.jpg", "extra/cat/2.jpg"], "extra, train hold directories of the same names: cat"),
        (
            ["north/cat/1.jpg", "north/dog/2.jpg", "south/cat/3.jpg", "south/dog/4.jpg"],
            "north, south hold .*: cat, dog",
        ),
        (
            ["train/cat/1.jpg", "train/dog/2.jpg", "unlabeled/3.jpg"],
            "train .* alone holds directories: cat, dog",
        ),
    ],
)
def test_where_splits_and_classes_look_alike_a_person_decides(
    tmp_path: Path, names: list[str], named: str
) -> None:
    tree(tmp_path, *names)
    with pytest.raises(SourceError, match=named) as caught:
        open_source(tmp_path)
    assert "--split-level if" in caught.value.hint
    assert "--no-split-level if" in caught.value.hint
    assert set(open_source(tmp_path, SourceOptions(split_level=True)).labels) <= {b"cat", b"dog"}
    tops = {os.fsencode(name.split("/")[0]) for name in names}
    assert set(open_source(tmp_path, SourceOptions(split_level=False)).labels) == tops


def test_the_split_level_can_be_decided(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat/1.jpg", "test/cat/2.jpg")
    source = open_source(tmp_path, SourceOptions(split_level=False))
    assert source.labels == [b"test", b"train"]
    tree(tmp_path, "more/dog/3.jpg", "flat/4.jpg")
    source = open_source(tmp_path, SourceOptions(split_level=True))
    assert source.splits == ["more", "test", "train"]
    assert source.labels == [b"dog", b"cat", b"cat"]
    assert any("flat" in note and "left out" in note for note in source.notes)
    with pytest.raises(SourceError, match="none in cat"):
        open_source(tmp_path / "train", SourceOptions(split_level=True))


def test_thumbnails_of_file_servers_are_no_samples(tmp_path: Path) -> None:
    source = open_source(tree(tmp_path, "cat/1.jpg", "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "dog/2.jpg"))
    assert source.ids == [b"cat/1.jpg", b"dog/2.jpg"]
    assert any("@eaDir (1)" in note for note in source.notes)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/4.jpg", "cat/.hidden.jpg", ".git/5.jpg")
    tree(tmp_path, "README", "cat/notes.txt", "cat/more.txt", "dog/Makefile", "empty/deep/list.csv")
    source = open_source(tmp_path)
    assert len(source.ids) == 4
    notes = "\n".join(source.notes)
    assert "1 files beside the class directories" in notes
    assert ".txt (2)" in notes
    assert "no extension (1)" in notes
    assert "make no class: empty" in notes
    assert b"empty" not in source.labels


def test_names_are_bytes(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("the file system refuses such names")
    names = [
        b"caf\xe9/\xff\x00.jpg".replace(b"\x00", b"\n"),
        b"caf\xe9/a,\"b'.jpg",
        "猫/猫.png".encode(),
        b"-/--help.png",
    ]
    source = open_source(tree(tmp_path, *names))
    assert set(source.ids) == set(names)
    assert b"caf\xe9" in source.labels
    assert all(note.isprintable() for note in source.notes)


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    tree(tmp_path / "data", "cat/1.jpg", "dog/2.jpg")
    tree(tmp_path / "other", "3.jpg")
    (tmp_path / "data/cat/loop").symlink_to(tmp_path / "data/cat")
    (tmp_path / "data/cat/deep").mkdir()
    (tmp_path / "data/cat/deep/up").symlink_to("..")
    (tmp_path / "data/dog/more").symlink_to(tmp_path / "other")
    (tmp_path / "data/dog/self.jpg").symlink_to("self.jpg")
    source = open_source(tmp_path / "data")
    assert source.ids == [b"cat/1.jpg", b"dog/2.jpg", b"dog/more/3.jpg", b"dog/self.jpg"]
    assert any("met twice" in note and "cat/loop" in note for note in source.notes)


def test_what_is_no_image_fails_alone(tmp_path: Path) -> None:
    tree(tmp_path, "cat/empty.jpg", "dog/2.jpg")
    os.mkfifo(tmp_path / "cat/pipe.jpg")
    (tmp_path / "dog/gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "dog/dir.jpg").mkdir()
    source = open_source(tmp_path)
    at = {name: index for index, name in enumerate(source.ids)}
    assert b"dog/dir.jpg" not in at
    with pytest.raises(UnreadableImage, match="empty"):
        source.image(at[b"cat/empty.jpg"])
    with pytest.raises(UnreadableImage, match="no regular file"):
        source.image(at[b"cat/pipe.jpg"])
    with pytest.raises(MissingImage, match="no such file"):
        source.image(at[b"dog/gone.jpg"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "is empty"),
        (["1.jpg", "2.jpg"], "2 images and no directory"),
        (["cat/notes.txt"], "no file with an image's extension"),
        ([".cat/1.jpg"], "is empty"),
    ],
)
def test_no_tree(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        open_source(tree(tmp_path, *names))
    assert caught.value.hint


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no .*nowhere"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"there is no .*\\x00"):
        open_source(tmp_path / "no\0where")


def test_a_kind_that_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "data.xyz").write_text("path,label\n")
    with pytest.raises(SourceError, match="none of them"):
        open_source(tmp_path / "data.xyz")
    with pytest.raises(SourceError, match="is a directory"):
        open_source(tmp_path, SourceOptions(kind="table"))
    with pytest.raises(UsageError, match="must be known"):
        open_source(tmp_path, SourceOptions(kind="zarr"))
    with pytest.raises(SourceError, match="is a directory"):
        open_source(tmp_path, SourceOptions(kind="parquet"))


def test_few_classes_or_samples_are_noted(tmp_path: Path) -> None:
    source = open_source(tree(tmp_path / "one", "cat/1.jpg", "cat/2.jpg"))
    assert any("only one class, cat" in note for note in source.notes)
    source = open_source(tree(tmp_path / "single", "cat/1.jpg", "cat/2.jpg", "dog/3.jpg"))
    assert any("1 class has a single sample" in note and "dog" in note for note in source.notes)
    source = open_source(tree(tmp_path / "deep", "images/cat/1.jpg", "images/dog/2.jpg"))
    assert any("if those are the classes" in note and "deep/images" in note for note in source.notes)
    source = open_source(tree(tmp_path / "alike", "Cat/1.jpg", "cat/2.jpg", "dog/3.jpg"))
    assert any("Cat, cat differ only in" in note for note in source.notes)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_closed_directory_is_said(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "dog").chmod(0)
    try:
        assert any("cannot be opened" in note for note in open_source(tmp_path).notes)
    finally:
        (tmp_path / "dog").chmod(0o700)


def test_a_table_beside_the_classes_makes_no_parquet_of_a_tree(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / label / "0.png")
    (tmp_path / "labels.parquet").write_bytes(b"PAR1")
    assert open_source(tmp_path).kind == "folder"
