"""Showing text that came from data: it is never interpreted as markup or as terminal escapes."""

from __future__ import annotations

import os
import unicodedata


def safe(value: str | bytes, limit: int | None = None) -> str:
    """Return `value` as one printable line.

    Control characters, line breaks, invisible format characters (which can reverse or hide text) and
    undecodable bytes become visible escapes such as ``\\x1b``.

    Parameters
    ----------
    value : str or bytes
        Text from outside; bytes are file names and are decoded with `os.fsdecode`.
    limit : int, optional
        Longest result in characters; longer text keeps its end, which tells files apart, behind an ellipsis.

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


def _visible(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: an undecodable byte of a file name
        return f"\\x{code - 0xDC00:02x}"
    if character == " " or unicodedata.category(character)[0] not in "CZ":
        return character
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
