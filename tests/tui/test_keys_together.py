"""Keys that arrive together decide on the samples that the same keys, typed slowly, decide on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.factories import make_audit
from tests.tui.bursts import click, differences, random_burst, review, wheel

NAMED = (
    *(
        "p\rd",
        " ",
        "jd",
        "jjj1",
        "jjjd",
        "\x1b1",
        "G1",
        "j" * 30 + "d",
        "uU",
        "'d",
        "?d",
        "/\x1bd",
        "\x1b]2d",
    ),
    *("/dz", "fd", ":zz", "nd", "gjd", "nnd", "+]d", "vvvb\r", "cd"),
)
QUEUE = 30
"""A column of the queue, whose first row stands on line 2 of the screen."""
CLICKED = (
    [click(QUEUE, 5), "d"],
    [click(QUEUE, 5), "d", click(QUEUE, 9), "1", click(QUEUE, 3), "z"],
    ["g", click(10, 6), "d"],
    [click(5, 4), click(5, 4), "d", click(5, 2), click(QUEUE, 4), "j", "x"],
    ["j", click(QUEUE, 8), "k", "d", click(QUEUE, 8), click(QUEUE, 8), "1"],
    ["g", wheel(16, 16, down=True), click(9, 4), "d"],
    [";", click(41, 14), "\r", "z"],
    ["g", wheel(39, 14, down=True), click(74, 4), "d"],
    [click(51, 12), "w", click(30, 12), "x"],
)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audit(tmp_path_factory.mktemp("keys"), n=200, classes=5, flips=0.15)


def test_keys_typed_while_the_program_starts_open_a_screen_and_decide(fresh: Path, tmp_path: Path) -> None:
    with review(fresh, tmp_path, slow=False, ahead="np\x1bjd") as program:
        assert [kind for _, kind, *_ in program.type([])] == ["exclude"]


@pytest.mark.timeout(600)  # half a minute on a machine of its own
def test_bursts(fresh: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    named = [*map(list, NAMED), *CLICKED]
    drawn = [random_burst(rng) for _ in range(200)]
    assert min(map(len, drawn)) == 2
    assert max(map(len, drawn)) > 150
    different, deciding = differences(fresh, tmp_path, [*named, *drawn])
    assert not different, "\n".join(different)
    assert sum(deciding[: len(named)]) > len(named) // 2
    assert sum(deciding[len(named) :]) > 40
