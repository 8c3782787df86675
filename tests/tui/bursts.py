"""Bursts of keys and clicks through a pseudo-terminal: typed together they must decide what they decide one by one.

`differences` runs the real program twice, once with each burst in one write and once with a pause behind each key, and
compares what was decided on after each burst. Between two bursts the program takes all decisions back and opens its
first queue again, so that a burst that differs can be repeated alone.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tui.pseudo import PLAIN, Terminal, child

PROGRAM = """
    import inspect
    from pathlib import Path
    from textual import events
    from labeltui.audit import Audit, QueueSpec
    from labeltui.tui.app import LabeltuiApp
    from labeltui.graphics import attach
    from labeltui.graphics.probe import detect

    path, slow = Path({path!r}), {slow!r}
    os.chdir(path.parent)  # exports go there
    caps = detect("ascii")

    def report(value):
        print(json.dumps(value), file=OUT)

    with Audit.open(path, reviewer="tester") as audit:

        class Reporting(LabeltuiApp):
            CSS_PATH = str(Path(inspect.getfile(LabeltuiApp)).with_name(LabeltuiApp.CSS_PATH))

            async def _typed(self, event):
                await super()._typed(event)
                if getattr(event, "character", None) == {mark!r}:
                    made = [(i, d.kind, d.label, d.second) for i in range(audit.n) if (d := audit.decision(i))]
                    while audit.undo():
                        pass
                    while len(self.screen_stack) > 1:
                        self.pop_screen()
                    self.review.panel.close()
                    self.review.reader.press("escape")
                    session = self.session
                    session.recent.clear()
                    session._by_use.clear()
                    session.class_order, session.checks.on = "overlap", False
                    session.load_classes()
                    session.open(QueueSpec())
                    self.review.class_list.put(None)
                    self.review.enter_pane("queue")
                    self.top.paint_all()
                    report(made)
                elif slow:
                    report(None)

            async def on_event(self, event):
                own = not event.is_forwarded
                await super().on_event(event)
                if slow and own and isinstance(event, events.MouseUp | events.MouseScrollUp | events.MouseScrollDown):
                    report(None)

            async def _type_early(self):
                await super()._type_early()
                report("ready")

            def leave(self):
                pass

        app = Reporting(audit, train_after=0)
        attach(app, caps, None)
        app.run()
"""
MARK = "\u2020"
"""A key that means nothing; the program says what is decided when it has come to it."""
ALPHABET = "jjjk1236 dzxauU\x1b\r/f:?'ngpcovVbm+hl\tG]\x12wse;"
NO_KEY = "\x1b[?1;0$y"
"""A terminal's report of a mode: behind Escape it says at once that Escape was a key and begins no sequence."""
PATIENCE = 60.0


def click(column: int, row: int) -> str:
    """Return what a terminal sends for a click on a cell, counted from 0."""
    return f"\x1b[<0;{column + 1};{row + 1}M\x1b[<0;{column + 1};{row + 1}m"


def wheel(column: int, row: int, down: bool) -> str:
    """Return what a terminal sends for a step of the mouse wheel over a cell."""
    return f"\x1b[<{65 if down else 64};{column + 1};{row + 1}M"


def random_burst(rng: random.Random) -> list[str]:
    """Return 2 to 200 keys, mostly few; every third burst has clicks and steps of the wheel among them."""
    length = round(2 * 100 ** (rng.random() ** 8))
    clicks = rng.random() < 1 / 3
    return [
        click(rng.randrange(80), rng.randrange(24))
        if clicks and rng.random() < 1 / 6
        else wheel(rng.randrange(80), rng.randrange(24), rng.random() < 0.7)
        if clicks and rng.random() < 1 / 12
        else rng.choice(ALPHABET)
        for _ in range(length)
    ]


class Program:
    """A running review on a copy of an audit."""

    def __init__(self, terminal: Terminal, process: Any, slow: bool) -> None:
        self.terminal, self.process, self.slow = terminal, process, slow

    def type(self, burst: Sequence[str]) -> list[Any]:
        """Type a burst and the mark; return what is decided."""
        if self.slow:
            for key in burst:
                self.terminal.type(key + NO_KEY if key == "\x1b" else key)
                assert self._line(burst) is None
                time.sleep(0.02 if len(key) > 1 else 0.004)
            self.terminal.type(MARK)
        else:
            self.terminal.type("".join(burst) + MARK)
        made = self._line(burst)
        assert made is not None
        return made

    def _line(self, keys: Sequence[str]) -> Any:
        waited = select.select([self.process.lines], [], [], PATIENCE)[0]
        text = self.process.lines.readline() if waited else ""
        if not text:
            screen = self.terminal.screen
            shown = "\n".join(screen.row(y) for y in range(screen.rows))
            what = "ended" if waited else "stands still"
            raise AssertionError(f"the program {what} at {''.join(keys)!r}:\n{shown}")
        return json.loads(text)


@contextmanager
def review(fresh: Path, place: Path, slow: bool, ahead: str = "", **more: str) -> Iterator[Program]:
    """Run the review on a copy of the audit `fresh`, in a directory of its own; `ahead` is typed while it starts.

    `more` goes into its environment.
    """
    path = place / "small.audit"
    shutil.copytree(fresh, path)
    terminal = Terminal(answer=PLAIN)
    env = {f"XDG_{name}_HOME": str(place / name.lower()) for name in ("CONFIG", "STATE", "CACHE")}
    os.makedirs(env["XDG_STATE_HOME"] + "/labeltui/audits")  # not the first start: no greeting
    try:
        script = PROGRAM.format(path=str(path), mark=MARK, slow=slow)
        with child(script, terminal, place, **env, **more) as process:
            program = Program(terminal, process, slow)
            terminal.answered(1)
            terminal.type(ahead)
            assert program._line(ahead) == "ready"
            yield program
    finally:
        terminal.close()


def differences(fresh: Path, place: Path, bursts: Sequence[Sequence[str]]) -> tuple[list[str], list[bool]]:
    """Return the bursts that decide otherwise when their keys arrive together, and of each if it decides anything."""
    found = []
    for slow in (False, True):
        with review(fresh, place / ("slow" if slow else "together"), slow) as program:
            found.append([program.type(burst) for burst in bursts])
    pairs = list(zip(bursts, *found, strict=True))
    different = [
        f"{''.join(burst)!r} decides {together} at once and {one_by_one} one by one"
        for burst, together, one_by_one in pairs
        if together != one_by_one
    ]
    return different, [bool(one_by_one) for _, _, one_by_one in pairs]
