"""A person at a desk: the app on a real audit, keys pressed, state and screen to look at."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual import events
from textual.keys import REPLACED_KEYS, _character_to_key, key_to_character
from textual.pilot import Pilot

from labeltui.audit import Audit
from labeltui.train.jobs import JobManager
from labeltui.train.plan import Request
from labeltui.tui.actions import BY_ID
from labeltui.tui.app import LabeltuiApp
from labeltui.tui.screens.base import TableScreen
from labeltui.tui.screens.review import ReviewScreen
from labeltui.tui.session import Session
from tests.factories import HEAD


@dataclass
class Desk:
    """What a test looks at."""

    audit: Audit
    app: LabeltuiApp
    pilot: Pilot[Any]

    @property
    def session(self) -> Session:
        return self.app.session

    @property
    def review(self) -> ReviewScreen:
        return self.app.review

    @property
    def sample(self) -> int:
        sample = self.session.sample
        assert sample is not None
        return sample

    @property
    def screen(self) -> list[str]:
        """The lines a person sees."""
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(self.screen)

    @property
    def status(self) -> str:
        screen = self.app.screen
        return screen.status.text.strip() if isinstance(screen, TableScreen) else ""

    async def press(self, *keys: str) -> None:
        """Type keys, and wait until the app is at rest; `Pilot.press` would wait twice behind each of them."""
        for name in keys:
            key = _character_to_key(name) if len(name) == 1 else name
            self.app.post_message(events.Key(key, key_to_character(REPLACED_KEYS.get(key, key))))
        await self.pilot.pause()

    async def do(self, *ids: str) -> None:
        """Start actions by the keys that the table gives them."""
        for id_ in ids:
            await self.press(BY_ID[id_].keys[0])

    async def until(self, holds: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for what happens off the UI thread."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"it did not come about; the status line says: {self.status}"
            await self.pilot.pause(0.02)

    async def click(self, column: int, row: int, target: str = "") -> None:
        """Click on a cell of the screen, or of a widget, by the way that a driver's events take."""
        at = self.app.screen.query_one(target).region if target else self.app.screen.region
        for kind in (events.MouseDown, events.MouseUp):
            place = {"x": at.x + column, "y": at.y + row, "screen_x": at.x + column, "screen_y": at.y + row}
            keys = {"button": 1, "shift": False, "meta": False, "ctrl": False}
            self.app.post_message(kind(None, delta_x=0, delta_y=0, **place, **keys))
        await self.pilot.pause()

    async def paste(self, text: str) -> None:
        self.app.post_message(events.Paste(text))
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        await self.press(*("space" if character == " " else character for character in text))


@asynccontextmanager
async def at_desk(
    path: Path,
    size: tuple[int, int] = (120, 40),
    read_only: bool = False,
    trains: bool = False,
    **options: Any,
) -> AsyncIterator[Desk]:
    """Open the app on an audit."""
    with Audit.open(path, reviewer="tester", read_only=read_only) as audit:
        jobs = JobManager(audit, request=Request(head=HEAD)) if trains else None
        app = LabeltuiApp(audit, jobs=jobs, **options)
        async with app.run_test(size=size) as pilot:
            desk = Desk(audit, app, pilot)
            await desk.until(lambda: app.review.reader.is_mounted)
            await pilot.pause()
            yield desk
