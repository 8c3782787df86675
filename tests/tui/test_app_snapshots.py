"""The screens as they look: text and colours, compared with what was looked at and found good.

After a change that is meant, write them anew and look at the difference::

    LABELTUI_SNAPSHOTS=write pytest tests/tui/test_app_snapshots.py; git diff tests/tui/snapshots
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import textual

from labeltui.graphics import ImageView
from labeltui.tui.screens.bulk import BulkScreen
from tests.tui.desk import Desk, at_desk
from tests.tui.drawn import draw_audit

PINNED = "8.2.8"
"""Textual of the stored snapshots; others may paint a border or a scrollbar differently."""
SNAPSHOTS = Path(__file__).parent / "snapshots"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def dump(desk: Desk) -> str:
    """Return the screen's lines, then for each line the runs of styles, then what the styles are."""
    styles: dict[str, str] = {}
    lines, runs = [], []
    for strip in desk.app.screen._compositor.render_strips():
        lines.append(strip.text.rstrip())
        line: list[tuple[str, int]] = []
        for segment in strip:
            name = str(segment.style)
            letter = styles.setdefault(name, LETTERS[min(len(styles), len(LETTERS) - 1)])
            if line and line[-1][0] == letter:
                line[-1] = (letter, line[-1][1] + segment.cell_length)
            else:
                line.append((letter, segment.cell_length))
        runs.append("".join(f"{letter}{length}" for letter, length in line))
    legend = [f"{letter} {name}" for name, letter in styles.items()]
    return "\n".join([*lines, "", *runs, "", *legend, ""])


async def nothing(desk: Desk) -> None:
    """Look at the screen as it opens."""


async def after_decisions(desk: Desk) -> None:
    await desk.do("suggestion-1", "keep", "exclude", "skip", "mark")


async def finding(desk: Desk) -> None:
    await desk.do("class")
    await desk.type("a")


async def help_(desk: Desk) -> None:
    await desk.do("help")


async def light(desk: Desk) -> None:
    desk.app.theme = "labeltui-light"
    await desk.do("suggestion-1")


async def sheet(desk: Desk) -> None:
    await desk.do("mark", "sheet", "keep")


async def pairs(desk: Desk) -> None:
    await desk.do("pairs", "down")


async def bulk(desk: Desk) -> None:
    await desk.do("mark", "mark", "bulk")
    screen = desk.app.screen
    assert isinstance(screen, BulkScreen)
    await desk.until(lambda: screen.shown is not None)


async def neighbours(desk: Desk) -> None:
    await desk.do("neighbours")


async def conflicts(desk: Desk) -> None:
    await desk.do("conflicts")


Look = tuple[Callable[[Desk], Awaitable[None]], tuple[int, int]]
LOOKS: dict[str, Look] = {
    "review": (after_decisions, (120, 40)),
    "review-small": (nothing, (80, 24)),
    "finder": (finding, (80, 24)),
    "help": (help_, (80, 24)),
    "light": (light, (100, 30)),
    "sheet": (sheet, (80, 24)),
    "pairs": (pairs, (80, 24)),
    "bulk": (bulk, (80, 24)),
    "neighbours": (neighbours, (80, 24)),
    "conflicts": (conflicts, (80, 24)),
}


@pytest.mark.skipif(textual.__version__ != PINNED, reason=f"the snapshots were made with Textual {PINNED}")
@pytest.mark.parametrize("name", LOOKS)
async def test_it_looks_as_it_did(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("LANG", "C.UTF-8")):
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("LC_ALL", raising=False)
    prepare, size = LOOKS[name]
    async with at_desk(draw_audit(tmp_path), size=size) as desk:
        await prepare(desk)
        await desk.pilot.pause(0.3)  # neighbours come after a rest
        images = [widget for widget in desk.app.screen.query(ImageView) if widget.size and widget.display]
        await desk.until(
            lambda: all(not p.region or p.encoded is not None for p in images if p._load is not None)
        )
        await desk.until(lambda: "saving" not in desk.text)
        await desk.pilot.pause()
        seen = dump(desk)
    file = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("LABELTUI_SNAPSHOTS") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(seen)
    assert seen == file.read_text(), f"{file} differs; see the top of this module"
