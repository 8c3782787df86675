from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeltui.text import fold, fraction, probability, safe, tell_apart


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


def test_searches_see_one_form_of_a_name() -> None:
    for name in ("café", "piñata", "한국"):
        assert fold(unicodedata.normalize("NFD", name)) == fold(unicodedata.normalize("NFC", name.upper()))
    assert fold("cat\u200b") == "cat"
    assert fold("a\xa0b") == "a b"


def test_names_that_look_alike_get_their_ids() -> None:
    assert tell_apart(["crane", "crane", "owl"], [b"n1", b"n2", b"n3"]) == ["crane (n1)", "crane (n2)", "owl"]
    forms = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    shown = tell_apart(forms, [name.encode() for name in forms])
    assert shown == ["café (caf\\xe9)", unicodedata.normalize("NFD", "café") + " (cafe\\u0301)"]


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "<.01"), (0.004, "<.01"), (0.005, ".01"), (0.5, ".50"), (0.994, ".99"), (0.996, ">.99"), (1.0, ">.99"),
     (None, "–"), (float("nan"), "–")],
)  # fmt: skip
def test_a_probability_never_claims_certainty(value: float | None, written: str) -> None:
    assert probability(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0"), (0.001, "<.01"), (0.72, ".72"), (0.999, ">.99"), (1.0, "1"), (-0.3, "-.30"), (-1.0, "-1")],
)
def test_a_measured_fraction_may_be_exactly_nothing_or_all(value: float, written: str) -> None:
    assert fraction(value) == written
