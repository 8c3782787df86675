"""Zip and tar archives: labels, random access, what changed, and archives that mean harm."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from labeltui.audit import Audit
from labeltui.cli import cli
from labeltui.embed import EmbedSpec
from labeltui.errors import ChangedImage, MissingImage, SourceError, UnreadableImage
from labeltui.export import write
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import SourceOptions, archives, open_images, open_source
from tests.factories import HEAD

OPTIONS = ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=HEAD)


def png(seed: int, mode: str = "png") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, mode)
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_zip(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def shards(directory: Path, n: int = 24) -> list[Path]:
    """Write two shards with .cls and .json beside the images."""
    found = []
    for number in range(2):
        members = {}
        for i in range(number * n // 2, (number + 1) * n // 2):
            members[f"{i:04}.png"] = png(i)
            if number:
                members[f"{i:04}.json"] = json.dumps({"label": i % 2, "width": 8}).encode()
            else:
                members[f"{i:04}.cls"] = b"%d\n" % (i % 2)
        found.append(write_tar(directory / f"{'ab'[number]}-{number:03}.tar", members))
    return found


def changed(audit: Audit) -> list[int]:
    found = []
    for i in range(audit.n):
        try:
            audit.images.image(i)
        except ChangedImage:
            found.append(i)
    return found


# --- the whole path ---------------------------------------------------------------------------------------------------


def test_from_shards_to_a_table_of_labels(tmp_path: Path) -> None:
    given = shards(tmp_path)
    out, table = tmp_path / "x.audit", tmp_path / "labels.csv"
    run = CliRunner().invoke(cli, ["scan", *map(str, given), "-o", str(out), "--model", "pixels"])
    assert run.exit_code == 0, run.output
    with Audit.open(out, read_only=True) as audit:
        assert audit.sample_id(3) == b"a-000.tar/0003.png"
        assert audit.images.read(3) == png(3)
        assert audit.images.image(20).size == (8, 8)
        assert audit.images.file(3) is None
        assert audit.owns(given[1])
        assert [audit.class_ids[label] for label in audit.given[:3].tolist()] == [b"0", b"1", b"0"]
    run = CliRunner().invoke(cli, ["export", str(out), "-o", str(table), "--verify"])
    assert run.exit_code == 0, run.output
    rows = list(csv.DictReader(table.open()))
    assert [row["path"] for row in rows][::12] == ["a-000.tar/0000.png", "b-001.tar/0012.png"]
    assert {row["status"] for row in rows} == {"ok"}


def test_one_archive_and_the_same_in_a_directory_give_the_same_embeddings(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    members = {f"{i % 2}/{i:02}.png": png(i) for i in range(12)}
    tar = write_tar(tmp_path / "shards" / "x.tar", members)
    zipped = write_zip(tmp_path / "x.zip", members, zipfile.ZIP_DEFLATED)
    found = []
    for number, path in enumerate((tar, tmp_path / "shards", zipped)):
        scan(path, tmp_path / f"{number}.audit", OPTIONS)
        with Audit.open(tmp_path / f"{number}.audit", read_only=True) as audit:
            assert audit.sample_id(0) == b"0/00.png"
            found.append((audit.sha256(3), np.asarray(audit.embedding()).tobytes()))
    assert found[0] == found[1] == found[2]


def test_members_that_changed_moved_or_went(tmp_path: Path) -> None:
    members = {f"{i % 2}/{i:02}.png": png(i) for i in range(12)}
    path = write_tar(tmp_path / "x.tar", members)
    scan(path, tmp_path / "x.audit", OPTIONS)
    turned = dict(reversed(members.items()))  # every member lies elsewhere
    write_tar(path, turned)
    with Audit.open(tmp_path / "x.audit", read_only=True) as audit:
        assert changed(audit) == []
    turned["0/02.png"] = png(99)
    del turned["1/11.png"]
    write_tar(path, turned)
    with Audit.open(tmp_path / "x.audit", read_only=True) as audit:
        i = [audit.sample_id(i) for i in range(12)].index(b"0/02.png")
        with pytest.raises(ChangedImage):
            audit.images.read(i)
        with pytest.raises(MissingImage, match="no such member"):
            audit.images.read(11)
        assert audit.images.changed_files() == ["x.tar"]
    path.unlink()
    with (
        Audit.open(tmp_path / "x.audit", read_only=True) as audit,
        pytest.raises(MissingImage, match=r"x\.tar"),
    ):
        audit.images.read(0)


def test_bytes_replaced_in_place_are_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{i % 2}/{i:02}.png": png(i) for i in range(12)})
    scan(path, tmp_path / "x.audit", OPTIONS)
    status, content = path.stat(), bytearray(path.read_bytes())
    at = content.index(png(0))
    content[at + 45] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the index holds on
    with Audit.open(tmp_path / "x.audit", read_only=True) as audit, pytest.raises(SourceError):
        audit.images.read(0)


def test_a_member_by_name_is_never_a_file_of_the_system(tmp_path: Path) -> None:
    """An export that links images must not follow names that lead out of the archive."""
    (tmp_path / "secret.png").write_bytes(png(70))
    (tmp_path / "data" / "c0").mkdir(parents=True)
    members = {f"c{i % 2}/{i:02}.png": png(i) for i in range(12)}
    members["../secret.png"] = png(50)
    members["c0/../../secret.png"] = png(51)
    path = write_tar(tmp_path / "data" / "x.tar", members)
    scan(path, tmp_path / "x.audit", OPTIONS)
    with Audit.open(tmp_path / "x.audit", read_only=True) as audit:
        names = [audit.sample_id(i) for i in range(audit.n)]
        assert b"c0/../../secret.png" in names
        assert b"../secret.png" not in names  # it lies in no class
        assert audit.images.read(names.index(b"c0/../../secret.png")) == png(51)
    run = CliRunner().invoke(
        cli, ["export", str(tmp_path / "x.audit"), "-o", str(tmp_path / "out"), "--format", "imagefolder"]
    )
    assert run.exit_code == 0, run.output
    made = list((tmp_path / "out").rglob("*.png"))
    assert not any(each.is_symlink() for each in made)
    assert png(51) in [each.read_bytes() for each in made]
    assert png(70) not in [each.read_bytes() for each in made]


# --- the index --------------------------------------------------------------------------------------------------------


def test_the_index_is_made_again_where_it_is_gone_or_broken(tmp_path: Path, cache: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {f"{i % 2}/{i}.png": png(i) for i in range(4)})
    source = open_source(path)
    description = source.describe()
    (index,) = cache.glob("*.npz")
    for damage in (b"no index", index.read_bytes()[:-300], None):
        index.unlink() if damage is None else index.write_bytes(damage)
        assert open_images(description, tmp_path).read(source.ids[3], 3) == source.read(3)
        assert len(list(cache.glob("*.npz"))) == 1


def test_archives_work_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = write_tar(tmp_path / "x.tar", {f"{i % 2}/{i}.png": png(i) for i in range(4)})
    source = open_source(path)
    assert open_images(source.describe(), tmp_path).read(b"1/3.png", 3) == png(3)


def test_few_indexes_are_kept(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labeltui.sources.archive_images.INDEXES", 2)
    for number in range(4):
        open_source(write_tar(tmp_path / f"{number}.tar", {"a/0.png": png(0), "b/1.png": png(1)}))
    assert len(list(cache.glob("*.npz"))) == 2


def test_an_index_that_was_tampered_with_is_made_again(tmp_path: Path, cache: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {f"{i % 2}/{i}.png": png(i) for i in range(4)})
    source = open_source(path)
    (index,) = cache.glob("*.npz")
    with np.load(index) as file:
        arrays = {name: file[name] for name in file.files}
    whole = index.read_bytes()
    elsewhere = arrays["places"].copy()
    elsewhere[:, 0] = 7  # there is one archive
    turned = arrays["names_offsets"].copy()
    turned[1:3] = turned[2:0:-1]
    for changed in ({"places": elsewhere}, {"names_offsets": turned}, {"places": arrays["places"][:2]}):
        np.savez(index.with_suffix(""), **{**arrays, **changed})
        assert open_images(source.describe(), tmp_path).read(source.ids[3], 3) == png(3)
    content = bytearray(whole)
    content[content.index(b"PK\x01\x02") + 6] = 255  # a version of zip that nobody has
    index.write_bytes(content)
    assert open_images(source.describe(), tmp_path).read(source.ids[3], 3) == png(3)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_the_field_of_the_label_is_named(tmp_path: Path) -> None:
    members = {}
    for i, name in enumerate(["lynx", "marten", "lynx"]):
        members |= {f"{i}.jpg": png(i, "jpeg"), f"{i}.json": json.dumps({"species": name}).encode()}
    members["7.json"] = b"{}"
    path = write_tar(tmp_path / "x.tar", members)
    with pytest.raises(SourceError, match="species"):
        open_source(path)
    source = open_source(path, SourceOptions(label_column="species"))
    assert source.labels == [b"lynx", b"marten", b"lynx"]
    assert any("1 labels without an image" in note for note in source.notes)


def test_one_image_of_a_sample_counts(tmp_path: Path) -> None:
    members = {}
    for i in range(4):
        members |= {f"{i}.seg.png": png(i + 10), f"{i}.jpg": png(i, "jpeg"), f"{i}.cls": b"%d" % (i % 2)}
    source = open_source(write_tar(tmp_path / "x.tar", members))
    assert list(source.ids) == [b"0.jpg", b"1.jpg", b"2.jpg", b"3.jpg"]
    assert any("several images" in note for note in source.notes)


@pytest.mark.parametrize("label", [b"[1, 2]", b"{", b"x" * 70_000])
def test_labels_that_are_none(tmp_path: Path, label: bytes) -> None:
    data = b'{"label": %s}' % label
    path = write_tar(tmp_path / "x.tar", {"0.png": png(0), "0.json": data})
    with pytest.raises(SourceError, match="label is a text or a whole number"):
        open_source(path)


def test_splits_come_from_shards_or_directories(tmp_path: Path) -> None:
    tree = write_zip(
        tmp_path / "tree.zip",
        {
            f"photos/{split}/{name}/{i}.png": png(i)
            for split in ("train", "test")
            for i, name in enumerate("ab")
        },
    )
    source = open_source(tree)
    assert list(source.splits or ()) == ["test", "test", "train", "train"]
    assert source.labels == [b"a", b"b", b"a", b"b"]
    assert any("photos" in note for note in source.notes)
    (tmp_path / "s").mkdir()
    for name in ("set-train-0000.tar", "set-val-0000.tar"):
        write_tar(tmp_path / "s" / name, {"0.png": png(0), "0.cls": b"1", "1.png": png(1), "1.cls": b"2"})
    assert list(open_source(tmp_path / "s").splits or ()) == ["train", "train", "val", "val"]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    write_tar(
        path,
        {"a/0.png": png(0), "b/1.png": png(1), "b/._1.png": b"x", "__MACOSX/b/1.png": b"x", "0.png": b"x"},
    )
    with tarfile.open(path, "a") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("a/link.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("a/0.png")
        info.size = len(png(5))
        archive.addfile(info, io.BytesIO(png(5)))
    source = open_source(path)
    assert list(source.ids) == [b"a/0.png", b"b/1.png"]
    assert source.read(0) == png(5)
    notes = "\n".join(source.notes)
    assert "links and devices (4)" in notes
    assert "later one of the same name replaces (1)" in notes
    assert "1 images beside the class directories" in notes


def test_names_keep_their_bytes(tmp_path: Path) -> None:
    names = ["é/1.png", "日/2.png"]
    for path in (
        write_tar(tmp_path / "x.tar", {name: png(0) for name in names}),
        write_zip(tmp_path / "x.zip", {name: png(0) for name in names}),
    ):
        source = open_source(path)
        assert sorted(source.ids) == sorted(name.encode() for name in names)
    with tarfile.open(tmp_path / "y.tar", "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
        for name in ("\xff/1.png", "b/2.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png(0))
            archive.addfile(info, io.BytesIO(png(0)))
    assert b"\xff/1.png" in open_source(tmp_path / "y.tar").ids


def test_several_sources_are_archives_of_one_directory(tmp_path: Path) -> None:
    given = shards(tmp_path)
    (tmp_path / "other").mkdir()
    elsewhere = write_tar(tmp_path / "other" / "c.tar", {"a/0.png": png(0)})
    for wrong in ([given[0], elsewhere], [given[0], given[0]], [given[0], tmp_path / "x.csv"]):
        with pytest.raises(SourceError, match="several sources"):
            scan(wrong, tmp_path / "no.audit", OPTIONS)


# --- archives that mean harm ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_that_are_cut_off(tmp_path: Path, kind: str, share: float) -> None:
    members = {f"{i % 2}/{i}.png": os.urandom(3000) for i in range(20)}
    path = (write_tar if kind == "tar" else write_zip)(tmp_path / f"x.{kind}", members)
    content = path.read_bytes()
    end = content.rstrip(b"\0")
    path.write_bytes(end[: int(share * len(end))])
    with pytest.raises(SourceError, match="must be whole") as caught:
        open_source(path)
    assert path.name in caught.value.got


def test_an_archive_cut_between_two_members_is_noted(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a/0.png": png(0), "b/1.png": png(1), "b/2.png": png(2)})
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"b/2.png")])
    assert any("may be cut off" in note for note in open_source(path).notes)


def test_a_second_archive_behind_the_first_is_noted(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a/0.png": png(0), "b/1.png": png(1)})
    with open(path, "ab") as file:
        file.write(write_tar(tmp_path / "y.tar", {"a/9.png": os.urandom(100_000)}).read_bytes())
    assert any("behind the end" in note for note in open_source(path).notes)


def test_a_zip_that_inflates_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1 << 20)
    path = write_zip(
        tmp_path / "x.zip", {"a/0.png": b"\0" * (8 << 20), "b/1.png": b"\0" * 9_999}, zipfile.ZIP_DEFLATED
    )
    source = open_source(path)
    with pytest.raises(UnreadableImage, match="more than"):
        source.read(0)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 99)  # it says that it is small
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match="damaged"):
        open_source(path).read(1)


def test_a_zip_member_without_a_name(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a/0.png": png(0), "b/1.png": png(1), "x.txt": b"x"})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 46] = 0  # names end at a zero
    path.write_bytes(content)
    assert list(open_source(path).ids) == [b"a/0.png", b"b/1.png"]


def test_zip_members_that_overlap(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {f"a/{i}.png": b"\0" * 5000 for i in range(3)}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    while at >= 0:
        content[at + 42 : at + 46] = struct.pack("<I", 0)  # all are the first
        at = content.find(b"PK\x01\x02", at + 4)
    path.write_bytes(content)
    with pytest.raises(SourceError, match="overlap"):
        open_source(path)


def test_a_zip_without_its_password_or_method(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a/0.png": png(0), "b/1.png": png(1)}, zipfile.ZIP_LZMA)
    with pytest.raises(UnreadableImage, match="neither stored nor deflated"):
        open_source(path).read(0)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match="encrypted"):
        open_source(path).read(0)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "content",
    [
        header("a/0.png", 1 << 50),
        header("a/0.png", 0) + header("a/1.png", -4096) + header("a/2.png", 0),
        header("x", 3 << 20, tarfile.XHDTYPE) + bytes(4 << 20),
        header("x", 3 << 20, tarfile.GNUTYPE_LONGNAME) + bytes(4 << 20),
        b"".join(header("x", 512, tarfile.GNUTYPE_LONGNAME) + b"n" * 512 for _ in range(5000)),
        header("a/0.png", 0) + os.urandom(2048),
        os.urandom(4096),
    ],
    ids=["huge", "backwards", "pax", "longname", "recursion", "noise-behind", "noise"],
)
def test_tar_headers_that_mean_harm(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content + bytes(1024))
    with pytest.raises(SourceError, match="must be whole"):
        open_source(tmp_path / "x.tar")


def test_a_sparse_member_is_left_out(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a/0.png": png(0), "b/1.png": png(1)})
    info = tarfile.TarInfo("a/9.png")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"77777777777\0"  # 8 GB unpacked
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    path.write_bytes(bytes(block) + path.read_bytes())
    source = open_source(path)
    assert list(source.ids) == [b"a/0.png", b"b/1.png"]
    assert any("sparse files (1)" in note for note in source.notes)


def test_compressed_tars_are_refused_with_the_reason(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz"):
        pass
    with pytest.raises(SourceError, match="must not be compressed"):
        open_source(tmp_path / "x.tar.gz")


def test_unreadable_members_stay_in_the_audit(tmp_path: Path) -> None:
    members = {f"{i % 2}/{i:02}.png": png(i) for i in range(12)}
    members["0/04.png"] = b"no image"
    path = write_zip(tmp_path / "x.zip", members)
    content = bytearray(path.read_bytes())
    content[content.index(png(7)) + 60] ^= 255  # its checksum no longer fits
    path.write_bytes(content)
    scan(path, tmp_path / "x.audit", OPTIONS)
    with Audit.open(tmp_path / "x.audit", read_only=True) as audit:
        buffer = io.BytesIO()
        write(audit, buffer)
    rows = csv.DictReader(io.StringIO(buffer.getvalue().decode()))
    assert [row["path"] for row in rows if row["status"] == "unreadable"] == ["0/04.png", "1/07.png"]
