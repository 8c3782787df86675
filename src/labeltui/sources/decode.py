"""From the bytes of a file to upright RGB pixels, whatever the file holds.

Conversions, in this order:

* the first frame of an animation or of a multi-page file;
* a JPEG of more than `DRAFT_PIXELS` is decoded at 1/2, 1/4 or 1/8 of its size as long as the shorter side
  keeps `DRAFT_SIDE` pixels, which no backbone's input exceeds in practice;
* grey levels of 16 bits are stretched by one range for the whole data set (`labeltui.sources.levels`), or become the
  upper 8; integers of 32 bits within 0..255 and floats within 0..1 are taken as they are, others are stretched from
  their minimum to their maximum;
* transparent pixels are laid over white; palettes, CMYK, YCbCr, Lab and HSV become RGB; colour profiles are
  ignored;
* the EXIF orientation is applied.

Only formats with a decoder inside Pillow are opened: no file can make it start another program.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import stat
import warnings

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

from labeltui.errors import MissingImage, UnreadableImage

Levels = tuple[int, int]
MAX_FILE_BYTES = 1 << 30
DRAFT_PIXELS = 4_000_000
DRAFT_SIDE = 1024
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PROBE = b"\x55\xaa\x37\x91" * 64  # what image data may hold, and no marker
REMARK = "labeltui"  # key in `info` of an image about which a person should know something
COMMON = ("JPEG", "PNG", "GIF", "BMP", "PPM")  # ready without importing Pillow's other plugins
OTHERS = ("WEBP", "TIFF", "DIB", "TGA", "JPEG2000", "AVIF", "MPO")

# What Pillow warns of on stderr, which a terminal UI paints on, is either decoded or a reason for UnreadableImage.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it logs goes to stderr, too


def read_file(path: bytes) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    MissingImage
        There is no such file.
    UnreadableImage
        It is no regular file, is larger than `MAX_FILE_BYTES`, or cannot be read.
    """
    try:
        # Non-blocking: a name may belong to a pipe without a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingImage("there is no such file") from None
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"the file cannot be opened: {_reason(error)}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage("it is no regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise UnreadableImage(f"the file has {status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise UnreadableImage(f"the file cannot be read: {_reason(error)}") from None
    finally:
        os.close(descriptor)


def decode(data: bytes, levels: Levels | None = None) -> Image.Image:
    """Return the image in an encoded file.

    Parameters
    ----------
    data : bytes
        Content of an image file.
    levels : (int, int), optional
        The 16-bit grey levels that become black and white; None takes the upper 8 bits.

    Returns
    -------
    PIL.Image.Image
        RGB, upright.

    Raises
    ------
    UnreadableImage
        The bytes are no image, a damaged one, or one of too many pixels.
    """
    if not data:
        raise UnreadableImage("the file is empty")
    try:
        try:
            return _decode(data, levels)
        except OSError:
            ended = _ended(data, levels)
            if ended is None:
                raise
            return ended
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("the file is no image of a known format") from None
    except MemoryError:
        raise UnreadableImage("the image does not fit into memory") from None
    except Exception as error:
        # A damaged file can make a decoder raise anything: OSError, SyntaxError, struct.error, KeyError, ...
        raise UnreadableImage(f"the image cannot be decoded: {_reason(error)}") from None


def _decode(data: bytes, levels: Levels | None) -> Image.Image:
    with _open(data) as image:
        width, height = image.size
        limit = Image.MAX_IMAGE_PIXELS or width * height
        if image.format in ("JPEG", "MPO") and width * height > DRAFT_PIXELS:
            image.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
        if image.width * image.height > limit:
            raise UnreadableImage(f"the image has {width} x {height} pixels, more than {limit:,}")
        image.load()
        orientation = _orientation(image)
        rgb = to_rgb(image, levels)
        rgb = rgb if orientation is None else rgb.transpose(orientation)
        if width * height > limit:
            rgb.info[REMARK] = f"decoded at a fraction of its size, which is above {limit:,} pixels"
        return rgb


def _ended(data: bytes, levels: Levels | None) -> Image.Image | None:
    """Return a JPEG of which only the mark at the end is missing; None of any other file.

    A file that is cut earlier shows something else when other bytes follow; one whose pixels are complete does not.
    """
    if not data.startswith(JPEG_START) or data.rstrip(b"\0").endswith(JPEG_END):
        return None
    complete = data.removesuffix(b"\xff")
    try:
        image, probe = (_decode(complete + more + JPEG_END, levels) for more in (b"", PROBE))
    except OSError:
        return None
    if image.tobytes() != probe.tobytes():
        return None
    image.info[REMARK] = "a JPEG without the mark at its end"
    return image


def grey_levels(data: bytes) -> npt.NDArray[np.uint16] | None:
    """Return the levels (H, W) of a file of 16-bit grey; None of any other file. Only the header of others is read."""
    try:
        with _open(data) as image:
            small = image.width * image.height <= (Image.MAX_IMAGE_PIXELS or image.width * image.height)
            if not small or not (image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG")):
                return None
            image.load()
            return np.asarray(image).astype(np.uint16)
    except Exception:  # as in `decode`; reading the image reports the reason
        return None


def to_rgb(image: Image.Image, levels: Levels | None = None) -> Image.Image:
    """Return a loaded image as 8-bit RGB.

    Parameters
    ----------
    image : PIL.Image.Image
    levels : Levels, optional
        As for `decode`.

    Returns
    -------
    PIL.Image.Image
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = np.asarray(image)
        if image.format == "PNG":
            grey = grey.astype(np.uint16)  # older versions of Pillow open 16 bits as 32
        return Image.fromarray(_grey(grey, levels)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image.convert("RGB")


def from_array(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """Return a uint8 array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as an RGB image."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


def pixel_hash(image: Image.Image) -> bytes:
    """Return the SHA-256 of an RGB image's size and pixels: equal for equal images in different files."""
    digest = hashlib.sha256(b"%d %d\n" % image.size)
    digest.update(image.tobytes())
    return digest.digest()


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=COMMON)
    except Image.DecompressionBombError:
        if not data.startswith(JPEG_START):
            raise
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        if image.info.get("progressive"):  # these are held in memory at their full size
            raise
        return image
    except UnidentifiedImageError:
        Image.init()
        return Image.open(io.BytesIO(data), formats=[name for name in OTHERS if name in Image.OPEN])


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that puts an image upright; damaged EXIF data is ignored."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return None
    return _UPRIGHT.get(value) if isinstance(value, int) else None


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _grey(grey: npt.NDArray[np.generic], levels: Levels | None) -> npt.NDArray[np.uint8]:
    """Return grey levels of more than 8 bits as 8 bits."""
    if grey.dtype.itemsize == 2:
        if levels is None:
            return (grey.astype(np.uint16) >> 8).astype(np.uint8)
        black, white = levels
        stretched = (grey.astype(np.uint16).astype(np.float32) - black) * np.float32(255 / (white - black))
        shown: npt.NDArray[np.uint8] = np.rint(np.clip(stretched, 0, 255)).astype(np.uint8)
        return shown
    values = grey.astype(np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    full = 1.0 if grey.dtype.kind == "f" else 255.0
    if low >= 0 and high <= full:
        low, high = 0.0, full
    values = np.where(finite, values, low)
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.rint(scaled * 255).astype(np.uint8)


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.strip() or type(error).__name__
