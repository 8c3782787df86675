"""Data at URLs: through a local object store that speaks S3, and in memory."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from labeltui.audit import Audit
from labeltui.cli import cli
from labeltui.embed import EmbedSpec
from labeltui.errors import ChangedImage, MissingImage, SourceError, UnreadableImage, UsageError
from labeltui.io.atomic import sha256
from labeltui.paths import AUDIT_FILE, as_url, cache_dir
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import SourceOptions, open_images, open_source, reopen_source
from tests.factories import HEAD

OPTIONS = ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=HEAD)
BUCKET = "photos"


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def tar(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_what_is_a_url() -> None:
    assert as_url(Path("s3://bucket/a//b.tar")) == "s3://bucket/a/b.tar"
    assert as_url(Path("memory://x") / "y") == "memory://x/y"
    assert [as_url(Path(local)) for local in ("a/b", "/a:/b", "c:/x", "C:/x", "x:y", "s3:/", "s3://")] == [
        None
    ] * 7


def test_a_url_needs_its_library(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(UsageError, match="scheme"):
        open_source(Path("nowhere-scheme://x/y.tar"))


# --- in memory --------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[str]:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.store.clear()
    members = {f"{'ab'[i % 2]}/{i:02}.png": png(i) for i in range(12)}
    for name, data in members.items():
        system.pipe_file(f"/data/tree/{name}", data)
    system.pipe_file("/data/x.tar", tar(members))
    system.pipe_file("/data/x.zip", zipped(members))
    for number in range(2):
        part = {f"{i:02}.png": png(i) for i in range(6 * number, 6 * number + 6)}
        part |= {f"{i:02}.cls": b"ab"[i % 2 : i % 2 + 1] for i in range(6 * number, 6 * number + 6)}
        system.pipe_file(f"/data/shards/{number}.tar", tar(part))
    yield "memory://data"
    system.store.clear()


@pytest.mark.parametrize("name", ["tree", "x.tar", "x.zip", "shards"])
def test_every_form_reads_the_same(memory: str, name: str) -> None:
    source = open_source(Path(f"{memory}/{name}"))
    assert len(source.ids) == 12
    assert sorted(source.read(i) for i in range(12)) == sorted(png(i) for i in range(12))
    assert all(
        (source.labels[i], source.read(i)) in {(b"ab"[j % 2 : j % 2 + 1], png(j)) for j in range(12)}
        for i in range(12)
    )
    description = json.loads(json.dumps(source.describe()))
    again = reopen_source(description, source.root)
    assert (again.ids, again.labels) == (source.ids, source.labels)
    assert open_images(description, source.root).read(source.ids[5], 5) == source.read(5)


def test_parquet_at_a_url(memory: str) -> None:
    pa, fsspec = pytest.importorskip("pyarrow"), pytest.importorskip("fsspec")
    import pyarrow.parquet as pq

    rows = pa.table({"image": [png(i) for i in range(6)], "label": ["a", "b"] * 3})
    with fsspec.open("memory://data/p/train-00000-of-00001.parquet", "wb") as file:
        pq.write_table(rows, file, row_group_size=2)
    for path in (f"{memory}/p", f"{memory}/p/train-00000-of-00001.parquet"):
        source = open_source(Path(path))
        assert source.read(5) == png(5)
        assert open_images(source.describe(), source.root).read(source.ids[4], 4) == png(4)


TABLE = "path,label\n" + "".join(f"{'ab'[i % 2]}/{i:02}.png,{'ab'[i % 2]}\n" for i in range(12))


def test_a_table_and_the_images_it_lists(memory: str, tmp_path: Path) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe_file("/data/tree/labels.csv", TABLE.encode())
    system.pipe_file("/data/tables/labels.csv", TABLE.encode())
    (tmp_path / "labels.csv").write_text(TABLE)
    whole = TABLE.replace("\na/", f"\n{memory}/tree/a/") + f"{memory}/tree/a/00.png,b\n"
    (tmp_path / "whole.csv").write_text(whole)
    below = SourceOptions(image_root=Path(f"{memory}/tree"))
    for path, options in (
        (Path(f"{memory}/tree/labels.csv"), SourceOptions()),
        (Path(f"{memory}/tables/labels.csv"), below),
        (tmp_path / "labels.csv", below),
        (tmp_path / "whole.csv", below),
    ):
        source = open_source(path, options)
        assert not [note for note in source.notes if "none of the first" in note]
        assert [source.read(i) for i in range(12)] == [png(i) for i in range(12)]
        assert source.read(len(source.ids) - 1) == png(11 if len(source.ids) == 12 else 0)
        description = json.loads(json.dumps(source.describe()))
        assert open_images(description, source.root).read(source.ids[5], 5) == png(5)
        assert reopen_source(description, source.root).ids == source.ids
    notes = open_source(tmp_path / "labels.csv", SourceOptions(image_root=Path(f"{memory}/none"))).notes
    assert any("none of the first 10 files exists below memory://data/none" in note for note in notes)


def stored(**arrays: np.ndarray) -> bytes:
    """A .npy file of one array, or an .npz file of several."""
    file = io.BytesIO()
    if list(arrays) == ["array"]:
        np.save(file, arrays["array"])
    else:
        np.savez(file, **arrays)
    return file.getvalue()


ROWS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
PIXELS = np.random.default_rng(1).integers(0, 256, (12, 5, 6, 3), dtype=np.uint8)
LABELS = np.array(["a", "b"] * 6)


def test_arrays_at_a_url(memory: str, tmp_path: Path) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe_file("/data/x.npy", stored(array=ROWS))
    system.pipe_file("/data/images.npy", stored(array=PIXELS))
    system.pipe_file("/data/y.npy", stored(array=LABELS))
    system.pipe_file("/data/y.txt", "\n".join(LABELS).encode())
    system.pipe_file("/data/x.npz", stored(embeddings=ROWS, images=PIXELS, labels=LABELS))
    (tmp_path / "y.txt").write_text("\n".join(LABELS))
    np.save(tmp_path / "x.npy", ROWS)
    here, there = tmp_path / "y.txt", [Path(f"{memory}/y.{kind}") for kind in ("npy", "txt")]
    for path, labels in (
        *((Path(f"{memory}/x.npy"), each) for each in (here, *there)),
        *((Path(f"{memory}/images.npy"), each) for each in (here, *there)),
        (tmp_path / "x.npy", there[0]),
        (Path(f"{memory}/x.npz"), None),
    ):
        source = open_source(path, SourceOptions(labels=labels))
        assert list(source.labels) == [label.encode() for label in LABELS]
        description = json.loads(json.dumps(source.describe()))
        again = reopen_source(description, source.root)
        assert again.labels == source.labels
        assert (source.embeddings is None) == (path.name == "images.npy")
        if source.embeddings is not None:
            assert isinstance(source.embeddings, np.memmap)
            np.testing.assert_array_equal(source.embeddings, ROWS)
            np.testing.assert_array_equal(again.embeddings, ROWS)
        if path.stem == "images" or path.suffix == ".npz":
            for images in (source.images(), open_images(description, source.root)):
                np.testing.assert_array_equal(images.read(b"7", 7), PIXELS[7])


def test_images_beside_an_array_at_a_url(memory: str) -> None:
    import fsspec

    names = np.array([f"{'ab'[i % 2]}/{i:02}.png" for i in range(12)])
    content = stored(embeddings=ROWS, labels=LABELS, paths=names)
    fsspec.filesystem("memory").pipe_file("/data/tree/x.npz", content)
    source = open_source(Path(f"{memory}/tree/x.npz"))
    assert source.has_images
    images = open_images(json.loads(json.dumps(source.describe())), source.root)
    assert images.read(source.ids[7], 7) == png(7)
    assert images.scanned(png(7), 7) is None  # the scan read its row, not its file


def test_probabilities_at_a_url(memory: str) -> None:
    import fsspec

    p = np.where(LABELS[:, None] == np.array(["a", "b"]), 0.75, 0.25).astype(np.float32)
    content = stored(pred_probs=p, classes=np.array(["a", "b"]))
    fsspec.filesystem("memory").pipe_file("/data/p.npz", content)
    source = open_source(Path(f"{memory}/tree"), SourceOptions(pred_probs=Path(f"{memory}/p.npz")))
    np.testing.assert_array_equal(source.pred_probs, p)


def test_a_copy_is_fetched_once_and_again_when_its_file_changes(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    system, fetched = fsspec.filesystem("memory"), []
    get = type(system).get_file
    monkeypatch.setattr(
        type(system), "get_file", lambda self, *given: (fetched.append(given[0]), get(self, *given))
    )
    path, options = Path(f"{memory}/x.npy"), SourceOptions(labels=Path(f"{memory}/y.npy"))
    system.pipe_file("/data/y.npy", stored(array=LABELS))
    for rows, times in ((ROWS, 2), (ROWS, 2), (ROWS + 1, 3)):
        if times == 3 or not fetched:
            system.pipe_file("/data/x.npy", stored(array=rows))
        np.testing.assert_array_equal(open_source(path, options).embeddings, rows)
        assert len(fetched) == times
    copies = list((cache_dir() / "copies").iterdir())
    assert len(copies) == 3
    for copy in copies:
        os.utime(copy, (0, 0))  # not used for long
    system.pipe_file("/data/x.npy", stored(array=ROWS))
    open_source(path, options)
    assert len(list((cache_dir() / "copies").iterdir())) == 2  # those just used
    assert len(fetched) == 5


def test_a_file_that_changes_while_it_is_fetched_is_not_used(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    get = type(system).get_file

    def changing(self: object, *given: str) -> None:
        get(system, *given)
        system.pipe_file("/data/x.npy", stored(array=ROWS[:6]))

    system.pipe_file("/data/x.npy", stored(array=ROWS))
    monkeypatch.setattr(type(system), "get_file", changing)
    with pytest.raises(SourceError, match="changed while it was fetched"):
        open_source(Path(f"{memory}/x.npy"))
    assert not list((cache_dir() / "copies").iterdir())


def test_a_name_leads_nowhere_else(memory: str, tmp_path: Path) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe_file("/secret/x.png", png(0))
    (tmp_path / "x.png").write_bytes(png(0))
    names = ("../secret/x.png", "memory://secret/x.png", "x::memory://secret/x.png", str(tmp_path / "x.png"))
    images = open_source(Path(f"{memory}/tree")).images()
    for name in names:
        with pytest.raises((MissingImage, UnreadableImage)):
            images.read(name.encode(), 0)


def test_what_is_not_there_or_not_read(memory: str) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/data/cut.npy", stored(array=ROWS)[:-10])
    names = ["none.tar", "none.npy", "none.npz", "cut.npy", "none/"]
    for name in [*names, *(["none.parquet"] if find_spec("pyarrow") else [])]:
        with pytest.raises(SourceError):
            open_source(Path(f"{memory}/{name}"))
    source = open_source(Path(f"{memory}/tree"))
    with pytest.raises(MissingImage):
        source.images().read(b"a/99.png", 0)
    with pytest.raises(MissingImage, match="leads out"):
        source.images().read(b"../x.tar", 0)


def test_an_audit_does_not_connect_by_itself(memory: str, tmp_path: Path) -> None:
    path = Path(f"{memory}/tree")
    scan(path, tmp_path / "x.audit", OPTIONS)
    with Audit.open(tmp_path / "x.audit", read_only=True) as audit:
        with pytest.raises(MissingImage, match="fetched when you name it"):
            audit.images.image(0)
        assert audit.images.root is None
    with Audit.open(tmp_path / "x.audit", read_only=True, source_root=path) as audit:
        assert audit.images.read(0) == png(0)
        import fsspec

        fsspec.filesystem("memory").pipe_file("/data/tree/a/00.png", png(99))
        with pytest.raises(ChangedImage):
            audit.images.image(0)


# --- an object store --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        system = s3fs.S3FileSystem()
        system.mkdir(BUCKET)
        for number in range(2):
            part = {f"{i:02}.png": png(i) for i in range(6 * number, 6 * number + 6)}
            part |= {f"{i:02}.cls": b"ab"[i % 2 : i % 2 + 1] for i in range(6 * number, 6 * number + 6)}
            system.pipe_file(f"{BUCKET}/shards/train-{number}.tar", tar(part))
        for i in range(12):
            system.pipe_file(f"{BUCKET}/tree/{'ab'[i % 2]}/{i:02}.png", png(i))
        system.pipe_file(f"{BUCKET}/tree/labels.csv", TABLE.encode())
        yield f"s3://{BUCKET}"
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


@pytest.mark.remote
def test_from_an_object_store_to_a_table_of_labels(store: str, tmp_path: Path) -> None:
    out, table, url = tmp_path / "x.audit", tmp_path / "labels.csv", f"{store}/shards/train-*.tar"
    run = CliRunner().invoke(cli, ["scan", url, "-o", str(out), "--model", "pixels", "--workers", "1"])
    assert run.exit_code == 0, run.output
    with Audit.open(out, read_only=True, source_root=Path(f"{store}/shards")) as audit:
        assert audit.sample_id(7) == b"train-1.tar/07.png"
        assert audit.images.image(7).size == (8, 8)
        assert audit.images.read(7) == png(7)
    run = CliRunner().invoke(cli, ["export", str(out), "-o", str(table)])
    assert run.exit_code == 0, run.output
    assert "train-1.tar/07.png" in table.read_text()


@pytest.mark.remote
@pytest.mark.parametrize("local", [True, False])
def test_from_a_table_of_objects_to_corrected_labels(store: str, tmp_path: Path, local: bool) -> None:
    out, table, root = tmp_path / "x.audit", tmp_path / "corrected.csv", f"{store}/tree"
    (tmp_path / "labels.csv").write_text(TABLE)
    given = [str(tmp_path / "labels.csv"), "--image-root", root] if local else [f"{root}/labels.csv"]
    run = CliRunner().invoke(cli, ["scan", *given, "-o", str(out), "--model", "pixels", "--workers", "1"])
    assert run.exit_code == 0, run.output
    with Audit.open(out, source_root=Path(root)) as audit:
        assert audit.images.read(7) == png(7)
        audit.decide([7], "relabel", 0)
    run = CliRunner().invoke(cli, ["export", str(out), "-o", str(table)])
    assert run.exit_code == 0, run.output
    with open(table, newline="") as file:
        rows = {row["path"]: (row["given_label"], row["corrected_label"]) for row in csv.DictReader(file)}
    assert (rows["b/07.png"], rows["b/09.png"]) == (("b", "a"), ("b", "b"))


@pytest.mark.remote
def test_from_arrays_in_a_store_to_an_audit(store: str, tmp_path: Path) -> None:
    import s3fs

    system = s3fs.S3FileSystem()
    system.pipe_file(f"{BUCKET}/arrays/x.npy", stored(array=ROWS))
    system.pipe_file(f"{BUCKET}/arrays/y.npy", stored(array=LABELS))
    np.save(tmp_path / "x.npy", ROWS)
    np.save(tmp_path / "y.npy", LABELS)
    for place, out in ((f"{store}/arrays", "there"), (tmp_path, "here")):
        given = ["scan", f"{place}/x.npy", "--labels", f"{place}/y.npy", "-o", str(tmp_path / out)]
        run = CliRunner().invoke(cli, given)
        assert run.exit_code == 0, run.output
    assert sha256(tmp_path / "there" / AUDIT_FILE) == sha256(tmp_path / "here" / AUDIT_FILE)
    system.pipe_file(f"{BUCKET}/arrays/images.npy", stored(array=PIXELS))
    out, labels = tmp_path / "images", f"{store}/arrays/y.npy"
    given = ["scan", f"{store}/arrays/images.npy", "--labels", labels, "-o", str(out), "--model", "pixels"]
    run = CliRunner().invoke(cli, [*given, "--workers", "2"])
    assert run.exit_code == 0, run.output
    with Audit.open(out, read_only=True) as audit, pytest.raises(MissingImage, match="when you name it"):
        audit.images.read(7)
    with Audit.open(out, read_only=True, source_root=Path(f"{store}/arrays")) as audit:
        np.testing.assert_array_equal(audit.images.read(7), PIXELS[7])
    for given in (
        ["scan", f"{store}/arrays/none.npy"],
        ["scan", str(tmp_path / "x.npy"), "--labels", f"{store}/none.npy"],
    ):
        run = CliRunner().invoke(cli, [*given, "-o", str(tmp_path / "none")])
        assert isinstance(run.exception, SourceError)
        assert "must be there and readable" in str(run.exception)


@pytest.mark.remote
def test_objects_that_are_gone_or_closed(store: str) -> None:
    with pytest.raises(SourceError, match="must be there"):
        open_source(Path(f"{store}/none.tar"))
    with pytest.raises(SourceError):
        open_source(Path("s3://no-such-bucket/x"))
