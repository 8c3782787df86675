"""From bytes to upright RGB pixels."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from labeltui.errors import MissingImage, UnreadableImage
from labeltui.sources import decode as decoding
from labeltui.sources.decode import decode, pixel_hash, read_file

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")

RAMP = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "TGA"])
def test_lossless_formats_agree(kind: str) -> None:
    image = decode(encoded(Image.fromarray(RAMP), kind))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), RAMP)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # one bright corner tells all eight apart
    back = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1), 7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a, 3),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(np.ascontiguousarray(back(upright)))
    for kind, options in (("JPEG", {"quality": 95}), ("PNG", {}), ("TIFF", {})):
        got = np.asarray(decode(encoded(stored, kind, exif=exif, **options))).astype(int)
        assert got.shape == upright.shape
        assert abs(got - upright).max() < 30


def test_damaged_exif_is_ignored() -> None:
    data = encoded(Image.fromarray(RAMP), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data).size == (4, 4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_modes_become_rgb(mode: str) -> None:
    image = (
        Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
        if mode != "LAB"
        else Image.new("LAB", (4, 4), (255, 128, 128))
    )
    kind = "TIFF" if mode in ("CMYK", "YCbCr", "LAB") else "PNG"
    got = decode(encoded(image, kind))
    assert got.mode == "RGB"
    assert np.asarray(got).min() > 250


def test_transparency_is_laid_over_white() -> None:
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 255))
    expected = [[[255, 255, 255], [200, 0, 0]]]
    np.testing.assert_array_equal(np.asarray(decode(encoded(image))), expected)
    palette = image.convert("RGB").quantize(4)
    index = palette.getpixel((0, 0))
    np.testing.assert_array_equal(np.asarray(decode(encoded(palette, transparency=index)))[0, 0], [255] * 3)
    grey = decode(encoded(Image.new("LA", (1, 1), (0, 128))))
    assert 126 <= grey.getpixel((0, 0))[0] <= 128


def test_deep_grey_levels() -> None:
    deep = Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16))
    for kind in ("PNG", "TIFF"):
        assert [decode(encoded(deep, kind)).getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]
    for values, expected in (
        (np.array([[-1.0, 0.0, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 0.2, 0.5]], np.float32), [0, 51, 128]),
        (np.array([[7.0, np.nan, 7.0]], np.float32), [0, 0, 0]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 500, 1000]], np.int32), [0, 128, 255]),
    ):
        image = decode(encoded(Image.fromarray(values), "TIFF"))
        assert [image.getpixel((x, 0))[0] for x in range(3)] == expected


def test_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("white", "black")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data).getpixel((0, 0)) == (255, 255, 255)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"plain text", "no image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a known format"),
        (bomb(10_000, 10_000), "10000 x 10000 pixels, more than"),
        (bomb(60_000, 60_000), "exceeds limit|more than"),
        (bomb(100, 100), "cannot be decoded"),
        (encoded(NOISE)[:-200], "cannot be decoded"),
        (encoded(NOISE, "JPEG")[:-200], "cannot be decoded"),
    ],
    ids=["empty", "text", "postscript", "bomb", "large bomb", "no pixels", "cut png", "cut jpeg"],
)
def test_what_cannot_be_decoded_says_why(data: bytes, message: str) -> None:
    with pytest.raises(UnreadableImage, match=message):
        decode(data)


@settings(max_examples=150, deadline=None)
@given(
    position=st.floats(0, 1),
    change=st.binary(max_size=6),
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP"]),
)
def test_damage_never_escapes(position: float, change: bytes, kind: str) -> None:
    data = bytearray(encoded(Image.fromarray(RAMP), kind))
    at = int(position * len(data))
    data[at : at + len(change)] = change
    with contextlib.suppress(UnreadableImage):
        assert decode(bytes(data)).mode == "RGB"


def test_a_large_photograph_is_decoded_small() -> None:
    file = encoded(Image.new("RGB", (8660, 5774), (10, 200, 30)), "JPEG", quality=30)
    start = time.process_time()
    image = decode(file)
    assert time.process_time() - start < 5
    assert min(image.size) >= decoding.DRAFT_SIDE
    assert max(image.size) < 8660 / 2
    assert abs(np.asarray(image)[500, 500].astype(int) - [10, 200, 30]).max() < 10


def test_reading_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"content")
    name = str(tmp_path / "a.jpg").encode()
    assert read_file(name) == b"content"
    with pytest.raises(MissingImage):
        read_file(name + b"x")
    with pytest.raises(MissingImage):
        read_file(name + b"/below")
    with pytest.raises(UnreadableImage, match="no regular file"):
        read_file(str(tmp_path).encode())
    with pytest.raises(UnreadableImage, match="cannot be opened"):
        read_file(name + b"\0")
    with pytest.raises(UnreadableImage, match="cannot be opened"):
        read_file(b"x" * 5000)
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 3)
    with pytest.raises(UnreadableImage, match="7 bytes, more than 3"):
        read_file(name)


def test_the_hash_is_of_the_image_not_the_file() -> None:
    image = Image.fromarray(RAMP)
    same = {pixel_hash(decode(encoded(image, kind))) for kind in ("PNG", "BMP", "TIFF")}
    assert len(same) == 1
    assert pixel_hash(Image.fromarray(RAMP.reshape(2, 8, 3))) not in same


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lacking", [1, 2])
def test_a_jpeg_that_lacks_its_end_is_whole(progressive: bool, lacking: int) -> None:
    data = encoded(NOISE, "JPEG", quality=80, progressive=progressive)
    image = decode(data[:-lacking])
    assert image.tobytes() == decode(data).tobytes()
    assert "end" in image.info[decoding.REMARK]
    assert decoding.REMARK not in decode(data).info
    for cut in (*range(3, 20), 100, len(data) // 2):
        with pytest.raises(UnreadableImage):
            decode(data[:-cut])


@pytest.mark.parametrize("size", [400, 1024])  # above the limit, and so far above that Pillow refuses to look
def test_a_jpeg_above_the_limit_is_decoded_smaller(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    monkeypatch.setattr(decoding, "DRAFT_SIDE", 64)
    monkeypatch.setattr(decoding, "DRAFT_PIXELS", 50_000)
    large = NOISE.resize((size, size))
    image = decode(encoded(large, "JPEG"))
    assert 64 <= image.width < 200
    assert "fraction of its size" in image.info[decoding.REMARK]
    with pytest.raises(UnreadableImage):
        decode(encoded(large, "PNG"))
    if size > 500:
        with pytest.raises(UnreadableImage):
            decode(encoded(large, "JPEG", progressive=True))


def test_what_pillow_logs_reaches_no_screen() -> None:
    """Of too many samples a pixel Pillow complains by logging, which goes to stderr where nobody set it up."""
    code = """
import io, sys
from PIL import Image
from labeltui.errors import UnreadableImage
from labeltui.sources.decode import decode
file = io.BytesIO()
Image.new("RGB", (4, 4)).save(file, "TIFF")
data = bytearray(file.getvalue())
tag = data.index(bytes.fromhex("1501030001000000"))
data[tag + 8 : tag + 10] = (256).to_bytes(2, "little")
try:
    decode(bytes(data))
except UnreadableImage:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("refused\n", "")
