"""Whatever a person presses, nothing breaks, and undoing everything restores the start."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from labeltui.tui.actions import BY_ID
from labeltui.tui.screens.base import TableScreen
from tests.factories import make_audit
from tests.tui.desk import Desk, at_desk

STEPS = 200
NEVER = {"quit", "export", "source", "train", "cancel-training", "palette"}
"""Actions that leave, write files, or start processes; each has a trial of its own."""
TYPED = ("class1", "enter", "escape", "a", "down", "x y", "ctrl+u", "backspace")


async def press_something(desk: Desk, dice: random.Random) -> str:
    """Press a key of the screen that is open, or type into its panel."""
    screen = desk.app.screen
    assert isinstance(screen, TableScreen)
    if screen.panel.is_open or screen.reader.is_open:
        keys = dice.choice(TYPED)
        if keys in ("class1", "x y"):
            await desk.paste(keys)
        else:
            await desk.press(keys)
        return keys
    actions = [action for action in BY_ID.values() if screen.name_in_table in action.screens]
    action = dice.choice([action for action in actions if action.keys and action.id not in NEVER])
    await desk.press(dice.choice(action.keys))
    return action.id


@pytest.mark.parametrize("seed", [2])
async def test_random_keys_never_break_it_and_undo_restores_the_start(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    pressed: list[str] = []
    async with at_desk(make_audit(tmp_path, n=120), size=(100, 30)) as desk:
        start = desk.audit.summary()
        overlaps = [row.overlap for row in desk.audit.class_rows("index")]
        for _ in range(STEPS):
            pressed.append(await press_something(desk, dice))
            assert desk.app.is_running, pressed
            if dice.random() < 0.1:
                await desk.pilot.resize_terminal(dice.randint(20, 200), dice.randint(6, 60))
        await desk.pilot.pause()
        summary = desk.audit.summary()
        assert summary.reviewed == int((desk.audit.kinds != 0).sum()), pressed
        while desk.audit.undo() is not None:
            pass
        assert desk.audit.summary().reviewed == 0
        assert np.array_equal(desk.audit.current, desk.audit.given)
        assert desk.audit.summary().csg == pytest.approx(start.csg)
        assert [row.overlap for row in desk.audit.class_rows("index")] == pytest.approx(overlaps)
        assert desk.audit.flush(10)
