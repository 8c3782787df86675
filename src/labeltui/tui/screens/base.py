"""What all screens share: keys from the actions table, a panel to type into, one line for feedback."""

from __future__ import annotations

import asyncio
import contextlib
import textwrap
from inspect import isawaitable
from typing import Any, TypeVar, cast

from rich.cells import cell_len
from textual import events
from textual.geometry import Region
from textual.screen import Screen
from textual.widget import Widget
from textual.worker import Worker, WorkerState

from labeltui.frames import install_compositor
from labeltui.graphics import canvas_of
from labeltui.tui import guide, state
from labeltui.tui.actions import ALL, BY_ID, Action, Keymap, collapsed, of_screen, show_key
from labeltui.tui.host import Host, parts_of
from labeltui.tui.layout import Piece, fit
from labeltui.tui.requirements import Context
from labeltui.tui.synonyms import SYNONYMS
from labeltui.tui.widgets.over import Entry, Item, Panel, Reader
from labeltui.tui.widgets.paint import STYLES, Lines
from labeltui.tui.widgets.rows import Rows

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds that `TableScreen.settle` waits at most: a widget that goes away answers no more, and keys must not stop."""

WHEEL = 3
"""Lines by which one step of the mouse wheel scrolls a list."""


class TableScreen(Screen[T], inherit_bindings=False):
    """A screen whose keys come from the actions table.

    No widget ever takes the focus from Textual's point of view: the application hands the screen every key, one at a
    time (`typed`), and the screen gives it to its panel while that is open, and else to the table. That keeps a change
    of pane down to the two lines that show it; Textual repaints whole widgets for it.

    A subclass sets `name_in_table`, yields `panel` in `compose`, answers `context`, paints itself in `paint_all`, and
    has a method ``do_HANDLER`` for each handler of its actions. A handler changes all that a later key depends on
    before it returns, never by a message, a timer or a worker; what takes long is a worker.
    """

    name_in_table = ""
    AUTO_FOCUS = ""
    COMPONENT_CLASSES = STYLES

    def __init__(self, keymap: Keymap) -> None:
        super().__init__()
        install_compositor(self)
        self.keymap = keymap
        self.panel = Panel()
        self.reader = Reader()
        self.status = Lines(classes="status")
        self.footer = Lines(classes="footer")
        self.on_top = asyncio.Event()
        """Set once the screen is painted after it came on top; keys wait for it, since a person decides on what is
        shown."""

    @property
    def host(self) -> Host:
        """The application."""
        return cast("Host", self.app)

    def context(self) -> Context:
        """Say what holds now."""
        raise NotImplementedError

    def say(self, text: str, style: str = "plain") -> None:
        """Show one line of feedback.

        Parameters
        ----------
        text : str
        style : str
            Name of a style.
        """
        room = self.app.size.width - 2
        self.status.show([[(" ", "plain"), (fit(text, min(cell_len(text), room)), style)]])

    def complain(self, error: BaseException) -> None:
        """Show an error: in one line, or to read where it takes more."""
        parts = parts_of(error)
        text = ". ".join(parts)
        self.say(text, "bad")
        if cell_len(text) > self.app.size.width - 2:
            lines = [line for part in parts for line in textwrap.wrap(part, self.reader.room)]
            self.reader.read("This was not possible", [[(line, "plain")] for line in lines])

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        # Workers of screens and of the application (which calls this) are started with exit_on_error=False: what goes
        # wrong behind the screen must not end a program that may hold unsaved decisions.
        if event.state is WorkerState.ERROR and event.worker.error is not None:
            self.complain(event.worker.error)

    def paint_footer(self) -> None:
        """Paint the keys that do something now, most useful first, as many as fit."""
        actions = sorted(
            (action for action in collapsed(self.possible()) if action.footer and self.keymap.shown(action)),
            key=lambda action: (self.name_in_table not in action.prominent, action.footer),
        )
        room = self.app.size.width - 1
        pieces: list[Piece] = [(" ", "plain")]
        for action in actions:
            key, word = f"[{self.keymap.shown(action)}]", action.family or action.label
            size = cell_len(key) + cell_len(word) + 2
            if size <= room:
                pieces += [(key, "key"), (f" {word} ", "plain")]
                room -= size
        self.footer.show([pieces])

    def do_help(self) -> None:
        """Show the keys of this screen, first those that only it has, and what the words mean."""
        width = self.reader.room
        entries = [
            Entry([[(line, "warn")] for line in textwrap.wrap(problem, width)])
            for problem in self.keymap.problems
        ]
        group = ""
        own = collapsed(of_screen(self.name_in_table))
        for action in sorted(own, key=lambda action: action.screens == ALL):
            title = "everywhere" if action.screens == ALL else action.group
            if title != group:
                above: list[list[Piece]] = [[]] if group else []
                group = title
                entries.append(Entry([*above, [(title.upper(), "title")]], heading=True))
            entries.append(Entry(self._help_on(action, width)))
        entries.append(Entry([[], [("WORDS", "title")]], heading=True))
        entries += [Entry(lines) for lines in guide.words(width)]
        change = "The settings file can change any key; docs/keys.md lists the ids."
        entries.append(
            Entry([[], *([(line, "faint")] for line in textwrap.wrap(change, width))], heading=True)
        )
        self.reader.search(f"Help: {self.name_in_table}", entries)

    def _help_on(self, action: Action, width: int) -> list[list[Piece]]:
        keys = " ".join(show_key(key) for key in self.keymap.keys(action.id)) or "palette"
        if action.family:
            keys = self.keymap.shown(action)
        wrapped = textwrap.wrap(action.description, max(16, width - 13))
        return [
            [(fit("" if part else keys, 12), "key"), (" " + text, "plain")]
            for part, text in enumerate(wrapped)
        ]

    def do_palette(self) -> None:
        """Let the person find what they can do now."""
        items = [
            Item(
                action.label,
                action.id,
                self.keymap.shown_alone(action),
                action.description,
                f"{action.group} {action.family} {SYNONYMS.get(action.id, '')}",
            )
            for action in self.possible()
            if action.id != "palette"
        ]
        self.panel.find("What do you want to do?", items, self.action_do)

    def do_quit(self) -> None:
        """Leave the program, once everything is saved."""
        self.host.leave()

    def possible(self) -> list[Action]:
        """Return the actions that are valid now."""
        context = self.context()
        return [action for action in of_screen(self.name_in_table) if not action.requires(context)]

    async def action_do(self, id_: str) -> None:
        """Run an action of the table, or say why it is not possible now."""
        action = BY_ID[id_]
        if reason := action.requires(self.context()):
            self.say(reason, "warn")
            return
        handler = getattr(self, f"do_{action.handler}")
        await _finish(handler() if action.argument is None else handler(action.argument))

    def do_scaling(self) -> None:
        """Enlarge small images smoothly or pixel by pixel, and remember the choice."""
        canvas = canvas_of(self.app)
        canvas.scale(not canvas.smooth)
        state.save_choice("scaling", "smooth" if canvas.smooth else "pixels")
        self.say(f"small images are enlarged {'smoothly' if canvas.smooth else 'pixel by pixel'}")

    def do_redraw(self) -> None:
        """Paint everything anew."""
        self.host.redraw()

    def intercept(self, event: events.Key) -> bool:
        """Handle a key before the panel and the table see it; False leaves it to them."""
        return False

    async def typed(self, event: events.Key | events.Paste) -> None:
        """Handle a key, or pasted text, completely."""
        if isinstance(event, events.Paste):
            if self.panel.is_open:
                self.panel.paste(event.text)
        elif self.intercept(event):
            pass
        elif self.reader.is_open:
            self.reader.press(event.key, event.character)
        elif self.panel.is_open:
            taken = self.panel.press(event.key, event.character)
            if taken is not None:
                await _finish(taken())
        elif action := self.keymap.action(self.name_in_table, event.key):
            await self.action_do(action.id)

    def paint_all(self) -> None:
        """Paint every part."""
        raise NotImplementedError

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self._paint_on_top)

    def _paint_on_top(self) -> None:
        self.paint_all()
        self.on_top.set()

    async def settle(self) -> None:
        """Wait until every widget stands where it belongs: a click is for what the keys before it have shown.

        Textual moves, makes and resizes widgets by messages and after refreshes, each of which may ask for more.
        """
        before: list[tuple[Widget, Region]] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while True:
                    nodes = self.walk_children(with_self=True)
                    widgets = [widget for widget in nodes if isinstance(widget, Widget)]
                    await asyncio.gather(*map(_painted, widgets))
                    now = [(widget, widget.region) for widget in widgets]
                    if now == before:
                        return
                    before = now

    async def clicked(self, widget: Widget, y: int) -> None:
        """Handle a click completely.

        Parameters
        ----------
        widget : Widget
        y : int
            Line of the screen.
        """
        if not isinstance(widget, Rows) or not widget.click(y):
            return
        if widget is not self.panel.matches:
            await _finish(self.chosen(widget))
        elif taken := self.panel.press("enter", None):
            await _finish(taken())

    def wheel(self, widget: Widget, steps: int) -> None:
        """Scroll, completely: Textual would scroll by a message, behind the next key or click.

        Parameters
        ----------
        widget : Widget
            Below the mouse.
        steps : int
            Of the wheel; negative = up.
        """
        if isinstance(widget, Rows):
            widget.wheel(WHEEL * steps)

    def chosen(self, rows: Rows) -> object:
        """Act on the row at the cursor of a list: it was clicked once more."""
        return None


async def _painted(widget: Widget) -> None:
    """Wait until a widget has handled its messages, and what it asked for is on the screen."""
    painted = asyncio.Event()
    if widget.call_after_refresh(painted.set):
        await painted.wait()


async def _finish(result: Any) -> None:
    if isawaitable(result):
        await result
