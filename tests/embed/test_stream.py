"""Blocks of rows from a source: order, marks, hashes, repetition, stopping."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from labeltui.embed import (
    NON_FINITE,
    OK,
    UNREADABLE,
    ZERO,
    EmbedSpec,
    GivenEmbedder,
    PixelEmbedder,
    Transform,
    batch_ranges,
    embedder_for,
    stream,
)
from labeltui.embed.buffer import DECODED, FAILED, SharedBuffer
from labeltui.embed.decoders import ProcessDecoder
from labeltui.errors import Cancelled, InputError, LabeltuiError
from labeltui.sources import Source, SourceOptions, open_source
from labeltui.sources.decode import pixel_hash
from labeltui.sources.images import FileImages, Images

SMALL = PixelEmbedder(4, batch_size=8, unit=4)
N = 50


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """50 images of which three are bad: 7 is empty, 20 is text, 33 is cut."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for number in range(N):
        path = root / "ab"[number % 2] / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
    source = open_source(root)
    for index, content in ((7, b""), (20, b"text")):
        Path(os.fsdecode(os.path.join(os.fsencode(root), source.ids[index]))).write_bytes(content)
    cut = root / source.ids[33].decode()
    cut.write_bytes(cut.read_bytes()[:-60])
    return source


def fingerprint(blocks: list) -> tuple:
    return tuple(
        (block.start, block.stop, block.features.tobytes(), block.sha256.tobytes(), block.pixels.tobytes(),
         block.status.tobytes(), tuple(block.faults))
        for block in blocks
    )  # fmt: skip


def test_borders() -> None:
    assert batch_ranges(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert batch_ranges(0, 4) == []
    with pytest.raises(InputError):
        batch_ranges(5, 0)


def test_rows_hashes_and_marks(tree: Source) -> None:
    blocks = list(stream(tree, SMALL, batch_ranges(N, 8), workers=2))
    assert [(block.start, block.stop) for block in blocks] == batch_ranges(N, 8)
    status = np.concatenate([block.status for block in blocks])
    assert np.flatnonzero(status == UNREADABLE).tolist() == [7, 20, 33]
    assert (status[status != UNREADABLE] == OK).all()
    features = np.concatenate([block.features for block in blocks])
    assert not features[[7, 20, 33]].any()
    pixels = SMALL.transform(tree.image(41))
    np.testing.assert_array_equal(features[41], SMALL.encode(pixels[None])[0])
    faults = dict(fault for block in blocks for fault in block.faults)
    assert sorted(faults) == [7, 20, 33]
    assert "empty" in faults[7]
    assert "known format" in faults[20]
    assert "cannot be decoded" in faults[33]
    content = np.concatenate([block.sha256 for block in blocks])
    image = np.concatenate([block.pixels for block in blocks])
    for index in (0, 20, 33, 49):
        assert content[index].tobytes() == hashlib.sha256(tree.read(index)).digest()
    assert image[49].tobytes() == pixel_hash(tree.image(49))
    assert not image[[7, 20, 33]].any()


def test_the_bytes_depend_on_the_border_only(tree: Source) -> None:
    whole = fingerprint(list(stream(tree, SMALL, batch_ranges(N, 8), workers=0, threads=1)))
    for workers, threads in ((0, 3), (1, 2), (3, 1)):
        assert fingerprint(list(stream(tree, SMALL, batch_ranges(N, 8), workers, threads=threads))) == whole
    left = [border for border in batch_ranges(N, 8) if border[0] not in (0, 24)]
    assert fingerprint(list(stream(tree, SMALL, left, 2))) == tuple(b for b in whole if b[:2] in left)


def test_a_border_outside_the_source(tree: Source) -> None:
    with pytest.raises(InputError, match=r"48\.\.56"):
        list(stream(tree, SMALL, [(48, 56)]))


def test_arrays_of_images_need_no_process(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (10, 6, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(10))
    source = open_source(tmp_path / "x.npz")
    before = psutil.Process().children()
    blocks = stream(source, SMALL, batch_ranges(10, 8), workers=2)
    first = next(blocks)
    assert psutil.Process().children() == before
    assert first.sha256[3].tobytes() == hashlib.sha256(images[3].tobytes()).digest()
    np.testing.assert_array_equal(
        first.features[3], SMALL.encode(SMALL.transform(Image.fromarray(images[3]))[None])[0]
    )
    assert len(list(blocks)) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f8"])
def test_given_embeddings_are_judged_row_by_row(tmp_path: Path, dtype: object) -> None:
    rows = np.random.default_rng(2).normal(size=(9, 5)).astype(dtype)
    rows[1, 2], rows[3, 0], rows[4] = np.nan, -np.inf, 0
    np.savez(tmp_path / "x.npz", embeddings=rows, labels=np.arange(9))
    source = open_source(tmp_path / "x.npz", SourceOptions())
    embedder = embedder_for(source, EmbedSpec("pixels"))
    assert isinstance(embedder, GivenEmbedder)
    blocks = list(stream(source, embedder, batch_ranges(9, 4)))
    status = np.concatenate([block.status for block in blocks])
    assert status.tolist() == [OK, NON_FINITE, OK, NON_FINITE, ZERO, OK, OK, OK, OK]
    features = np.concatenate([block.features for block in blocks])
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[5:], rows[5:].astype(np.float32))
    assert not features[[1, 3, 4]].any()
    assert [index for block in blocks for index, _ in block.faults] == [1, 3, 4]
    assert blocks[1].pixels[1].tobytes() == hashlib.sha256(source.read(5)).digest()


def test_lengths_that_float32_cannot_square(tmp_path: Path) -> None:
    rows = np.ones((4, 3)) * np.array([[1.0], [1e-30], [1e30], [1e300]])
    np.savez(tmp_path / "x.npz", embeddings=rows, labels=np.arange(4))
    source = open_source(tmp_path / "x.npz")
    (block,) = stream(source, embedder_for(source, EmbedSpec("pixels")), batch_ranges(4, 8))
    assert block.status.tolist() == [OK, ZERO, NON_FINITE, NON_FINITE]
    assert "beyond float32's range" in dict(block.faults)[2]


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_cancelling_stops_and_leaves_nothing_behind(tree: Source) -> None:
    before = children()
    seen = []
    blocks = stream(tree, SMALL, batch_ranges(N, 8), workers=2, cancel=lambda: len(seen) >= 2)

    def watch() -> None:
        for block in blocks:
            seen.append(block.start)
            assert children() > before

    with pytest.raises(Cancelled):
        watch()
    assert seen == [0, 8]
    assert children() == before


def test_closing_early_leaves_nothing_behind(tree: Source) -> None:
    before = children()
    with closing(stream(tree, SMALL, batch_ranges(N, 8), workers=2)) as blocks:
        next(blocks)
    assert children() == before


@dataclass(frozen=True)
class Failing(PixelEmbedder):
    """Breaks on the third unit."""

    calls: list[int] = field(default_factory=list)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        self.calls.append(len(pixels))
        if len(self.calls) > 2:
            raise LabeltuiError("the model broke")
        return super().encode(pixels)


def test_a_failing_model_stops_the_stream(tree: Source) -> None:
    before = children()
    with pytest.raises(LabeltuiError, match="the model broke"):
        list(stream(tree, Failing(4, batch_size=8, unit=4), batch_ranges(N, 8), workers=1, threads=1))
    assert children() == before


# --- processes that end or hang ---------------------------------------------------------------------------------------

BAD = '''
import os, signal, time
from dataclasses import dataclass, field
from labeltui.sources.images import FileImages

@dataclass(frozen=True)
class BadImages(FileImages):
    """Some names end or block the process that reads them."""

    def read(self, sample_id, index):
        name = sample_id.decode()
        mark = os.path.join(self.root, "seen-" + name)
        if name.startswith("crash") or (name.startswith("once") and not os.path.exists(mark)):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGSEGV)
        if name.startswith("leave"):
            os._exit(7)
        if name.startswith("hang"):
            time.sleep(60)
        return super().read(sample_id, index)
'''


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Images]:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "bad_images.py").write_text(BAD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "bad_images", raising=False)
    import bad_images

    return bad_images.BadImages


def test_a_image_that_ends_or_blocks_its_process_is_marked(
    tmp_path: Path, bad: Callable[[Path], Images]
) -> None:
    names = ["a", "crash1", "b", "once", "empty", "leave", "c", "hang", "d", "crash2"]
    for name in names:
        Image.new("RGB", (3, 3), "red").save(tmp_path / name, "PNG")
    (tmp_path / "empty").write_bytes(b"")
    buffer = SharedBuffer(12, 4, 4)
    decoder = ProcessDecoder(buffer, bad(tmp_path), Transform(4, 4), workers=1, patience=1.0)
    try:
        reasons = dict(decoder.decode(2, [(name.encode(), index) for index, name in enumerate(names)]))
    finally:
        decoder.close()
    assert buffer.state[2:].tolist() == [
        FAILED if name in ("crash1", "empty", "leave", "hang", "crash2") else DECODED for name in names
    ]
    assert {names[offset]: reason for offset, reason in reasons.items()} == {
        "crash1": "the decoder crashed on it (SIGSEGV)",
        "empty": "the file is empty",
        "leave": "the decoder crashed on it (exit status 7)",
        "hang": "it took longer than 1 s to decode",
        "crash2": "the decoder crashed on it (SIGSEGV)",
    }
    assert buffer.pixels[2, 0, 0].tolist() == [255, 0, 0]
    assert not buffer.pixels[3].any()


def test_a_process_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('no luck today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    decoder = ProcessDecoder(SharedBuffer(1, 4, 4), FileImages(tmp_path), Transform(4, 4), workers=1)
    try:
        with pytest.raises(LabeltuiError, match=r"no luck today.*--workers 0"):
            decoder.decode(0, [(b"a", 0)])
    finally:
        decoder.close()


def test_killing_the_parent_ends_the_processes(tree: Source) -> None:
    code = f"""
        import time
        from pathlib import Path
        from labeltui.embed import PixelEmbedder, batch_ranges, stream
        from labeltui.sources import open_source
        source = open_source(Path({str(tree.root)!r}))
        blocks = stream(source, PixelEmbedder(4, 8, 4), batch_ranges(50, 8), workers=2)
        next(blocks)
        print("ready", flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    workers = psutil.Process(parent.pid).children()
    assert len(workers) >= 1
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
        assert time.monotonic() < deadline, "a decoding process outlived its parent"
        time.sleep(0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_the_allocator_is_as_before_after_passes() -> None:
    code = """
import ctypes
from labeltui.embed.memory import retain_heap
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]
libc.mallinfo2.restype = Info
def mapped():
    before = libc.mallinfo2().hblks
    libc.malloc(8 << 20)
    return libc.mallinfo2().hblks - before
print(mapped(), end=" ")
with retain_heap():
    print(mapped(), end=" ")
print(mapped())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "0", "1"]
