"""Without the private names of Textual everything can still be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from labeltui.frames import internals
from tests.factories import make_audit
from tests.tui.bursts import click, review
from tests.tui.pseudo import XTERM, Terminal, child, line
from tests.tui.test_recovery import PROGRAM, seen, wait

BURSTS = ("jd", "jjj1", " ", "/dz", "fd", ":zz", "nd", "vvvb\r", ["g", "j", "d"], [click(30, 5), "d"])


def test_this_textual_has_what_is_used_of_it() -> None:
    assert internals.missing(internals.USED) == []


def test_what_a_textual_lacks_is_named() -> None:
    lacking = internals.missing(
        {
            "textual.app:App._shown": None,
            "textual._frames:Frame": None,
            "textual.app:App._display": ("self", "frame"),
            "textual.app:App.exit": None,
        }
    )
    assert [problem.split(":")[0] for problem in lacking] == ["textual.app", "textual._frames", "textual.app"]
    assert "takes self, screen, renderable, not self, frame" in lacking[2]


def test_keys_decide_the_same_with_textuals_own_frames(tmp_path: Path) -> None:
    fresh = make_audit(tmp_path / "made", n=200, classes=5, flips=0.15)
    decided = []
    for name, switch in (("ours", ""), ("textual", "textual")):
        with review(fresh, tmp_path / name, slow=False, LABELTUI_FRAMES=switch) as program:
            decided.append([program.type(burst) for burst in BURSTS])
    assert decided[0] == decided[1]
    assert sum(map(bool, decided[0])) > len(BURSTS) // 2


@pytest.mark.parametrize("switch", ["", "textual"])
def test_images_are_blocks_where_frames_take_no_pixels(switch: str, tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=60)
    terminal = Terminal(answer=XTERM)
    try:
        with child(PROGRAM.format(path=str(path)), terminal, tmp_path, LABELTUI_FRAMES=switch) as process:
            assert line(process) == "sixel"
            wait(lambda: "QUEUE" in "\n".join(seen(terminal)[0]))
            if switch:
                wait(lambda: "▀" in "\n".join(seen(terminal)[0]))
                assert not seen(terminal)[1]
            else:
                wait(lambda: seen(terminal)[1] > 0)
    finally:
        terminal.close()
