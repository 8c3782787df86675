"""Display of untrusted text: never interpreted as markup or terminal escapes."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

DEEPEST = 32  # levels of a JSON value that are shown
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def safe(value: str | bytes, limit: int | None = None) -> str:
    """Return `value` as one printable line.

    Control characters, line breaks, invisible format characters (which can reverse or hide text) and
    undecodable bytes become visible escapes such as ``\\x1b``.

    Parameters
    ----------
    value : str or bytes
        Text from outside; bytes are file names and are decoded with `os.fsdecode`.
    limit : int, optional
        Longest result in characters; longer text keeps its end, which distinguishes files, after an ellipsis.

    Returns
    -------
    str
    """
    text = os.fsdecode(value) if isinstance(value, bytes) else value
    if not text.isascii() or not text.isprintable():
        text = "".join(_visible(character) for character in text)
    if limit is not None and len(text) > limit:
        text = "…" + text[len(text) - max(0, limit - 1) :] if limit > 0 else ""
    return text


def fold(text: str) -> str:
    """Return text as searches compare it: one Unicode form, lower case, without invisible format characters.

    >>> fold("CAFE\\u0301") == fold("caf\\u00e9")
    True
    """
    if text.isascii():
        return text.casefold()
    text = "".join(
        character
        for character in unicodedata.normalize("NFKC", text)
        if unicodedata.category(character) != "Cf"
    )
    return unicodedata.normalize("NFKC", text.casefold())


def tell_apart(names: Sequence[str], ids: Sequence[bytes]) -> list[str]:
    """Return printable names, made by `safe`; those that look alike are followed by their id.

    Parameters
    ----------
    names : sequence of str
    ids : sequence of bytes
        One per name.

    Returns
    -------
    list of str

    >>> tell_apart(["crane", "crane", "maillot"], [b"n02012849", b"n03126707", b"n03710637"])
    ['crane (n02012849)', 'crane (n03126707)', 'maillot']
    """
    shown = [safe(name) for name in names]
    for places in _alike(shown):
        for place, plain in zip(places, different([ids[place] for place in places]), strict=True):
            shown[place] = f"{shown[place]} ({plain})"
    return shown


def different(names: Sequence[bytes]) -> list[str]:
    """Return names for showing, those that would look alike in ASCII."""
    shown = [safe(name) for name in names]
    for places in _alike(shown):
        for place in places:
            shown[place] = shown[place].encode("ascii", "backslashreplace").decode()
    return shown


def _alike(shown: Sequence[str]) -> list[list[int]]:
    """Groups of places whose texts look the same on a screen, in the order of their first one."""
    places: dict[str, list[int]] = {}
    for place, text in enumerate(shown):
        places.setdefault(unicodedata.normalize("NFC", text), []).append(place)
    return [group for group in places.values() if len(group) > 1]


def is_utf8(name: bytes) -> bool:
    """Whether a name is valid UTF-8."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def escape(name: bytes) -> bytes:
    r"""Return a name as UTF-8: as it is where it is valid, else with its undecodable bytes as ``\xHH``.

    Of an undecodable name, ``\x`` becomes ``\x5cx``, so that `unescape` gives it back.
    """
    if name.isascii() or is_utf8(name):
        return name
    return name.replace(b"\\x", b"\\x5cx").decode("utf-8", "backslashreplace").encode()


def unescape(text: bytes | str) -> bytes:
    r"""Return the name that `escape` wrote.

    A valid name that looks like an escaped one (``a\xff.png``, with a backslash) cannot be distinguished from it: look
    for the text itself first.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    name = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), data)
    return data if is_utf8(name) else name


def safe_json(value: Any) -> Any:
    """Return a JSON value with all its text made `safe`; what is nested deeper than `DEEPEST` is left out."""
    return _safe_json(value, DEEPEST)


def _safe_json(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return safe(value)
    if not isinstance(value, (dict, list)):
        return value
    if not depth:
        return None
    if isinstance(value, dict):
        return {safe(key): _safe_json(item, depth - 1) for key, item in value.items()}
    return [_safe_json(item, depth - 1) for item in value]


def _visible(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: an undecodable byte of a file name
        return f"\\x{code - 0xDC00:02x}"
    if character == " " or unicodedata.category(character)[0] not in "CZ":
        return character
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def short_name(path: str) -> str:
    """Return a file's name without its folders and its ending."""
    name = path.rsplit("/", 1)[-1]
    stem, dot, ending = name.rpartition(".")
    return stem if dot and stem and len(ending) <= 5 else name


NO_EVIDENCE = "–"


def probability(p: float | None) -> str:
    """Write an estimated probability in at most four characters.

    Parameters
    ----------
    p : float or None
        0 to 1; None or NaN where there is no evidence.

    Returns
    -------
    str
        ``.97``; ``<.01`` and ``>.99`` where two digits would claim certainty; ``–`` for no evidence.
    """
    if p is None or p != p:
        return NO_EVIDENCE
    if p < 0.005:
        return "<.01"
    return f"{p:.2f}"[1:] if p < 0.995 else ">.99"


def fraction(value: float) -> str:
    """Write a measured number of -1..1 (a fraction, an overlap, a cosine similarity) in at most four characters.

    Unlike an estimate it may be exactly ``0`` or ``1``; what only comes near is written ``<.01`` or ``>.99``.
    """
    if value < 0:
        return f"-{probability(-value)}" if value > -0.995 else "-1"
    if value in (0, 1):
        return f"{value:.0f}"
    return probability(value)
