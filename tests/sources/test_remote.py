"""Data at URLs: through a local object store that speaks S3, and in memory."""

from __future__ import annotations

import io
import json
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
from labeltui.errors import ChangedImage, MissingImage, SourceError, UsageError
from labeltui.paths import as_url
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import open_images, open_source, reopen_source
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


def test_what_is_not_there_or_not_read(memory: str) -> None:
    for name in ("none.tar", "none/", *(["none.parquet"] if find_spec("pyarrow") else [])):
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
def test_objects_that_are_gone_or_closed(store: str) -> None:
    with pytest.raises(SourceError, match="must be there"):
        open_source(Path(f"{store}/none.tar"))
    with pytest.raises(SourceError):
        open_source(Path("s3://no-such-bucket/x"))
