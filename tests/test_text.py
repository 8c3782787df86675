from __future__ import annotations

import os
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from labeltui.text import safe


@given(st.one_of(st.text(), st.binary().filter(lambda b: b"\0" not in b)))
def test_nothing_a_terminal_interprets_survives(value: str | bytes) -> None:
    shown = safe(value)
    assert all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in shown)


def test_plain_names_are_unchanged() -> None:
    assert safe("Ägyptische Katze 猫.png") == "Ägyptische Katze 猫.png"
    assert safe(os.fsencode("a b.png")) == "a b.png"


def test_escapes_are_visible() -> None:
    assert safe("\x1b[31mred\n") == "\\x1b[31mred\\x0a"
    assert safe(b"caf\xe9.png") == "caf\\xe9.png"
    assert safe("evil\u202egnp.exe") == "evil\\u202egnp.exe"


def test_limit_keeps_the_end() -> None:
    assert safe("train/cat/000123.png", 10) == "…00123.png"
    assert safe("abc", 10) == "abc"
    assert safe("abc", 0) == ""
