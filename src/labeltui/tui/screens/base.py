"""What all screens share: keys from the actions table, one line for feedback."""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from textual import on
from textual.binding import BindingsMap
from textual.screen import Screen
from textual.widget import Widget

from labeltui.tui.actions import BY_ID, Action, Context, Keymap, of_screen
from labeltui.tui.widgets.over import Over

if TYPE_CHECKING:
    from labeltui.tui.app import LabeltuiApp

T = TypeVar("T")


class TableScreen(Screen[T], inherit_bindings=False):
    """A screen whose keys come from the actions table.

    A subclass sets `name_in_table`, answers `context`, shows feedback in `say`, and has a method
    ``do_HANDLER`` for each handler of its actions.
    """

    name_in_table = ""

    def __init__(self, keymap: Keymap) -> None:
        super().__init__()
        self.keymap = keymap
        self.over: Over | None = None
        self._before_over: Widget | None = None
        self._bindings = BindingsMap(keymap.bindings(self.name_in_table))

    @property
    def labeltui(self) -> LabeltuiApp:
        """The application, with its type."""
        return cast("LabeltuiApp", self.app)

    async def open_over(self, over: Over) -> None:
        """Open a panel over this screen; it gets all keys, also those typed before it is painted."""
        self._before_over = self.focused
        self.over = over
        await self.over_home().mount(over)
        over.line.focus()

    def over_home(self) -> Widget:
        """Return the container, with a layer ``over``, whose left side panels may cover."""
        return self

    @on(Over.Closed)
    async def _over_closed(self, event: Over.Closed) -> None:
        if self.over is not event.over:
            return
        self.over = None
        event.over.remove()
        if self._before_over is not None:
            self._before_over.focus()
        if event.value is not None:
            await _finish(event.over.take(event.value))

    def context(self) -> Context:
        """Say what holds now."""
        raise NotImplementedError

    def say(self, text: str, style: str = "plain") -> None:
        """Show one line of feedback."""
        raise NotImplementedError

    def possible(self) -> list[Action]:
        """Return the actions that are valid now."""
        context = self.context()
        return [action for action in of_screen(self.name_in_table) if not action.law(context)]

    async def action_do(self, id_: str) -> None:
        """Run an action of the table, or say why it is not possible now."""
        if self.over is not None:
            return
        action = BY_ID[id_]
        if reason := action.law(self.context()):
            self.say(reason, "warn")
            return
        handler = getattr(self, f"do_{action.handler}")
        await _finish(handler() if action.argument is None else handler(action.argument))


async def _finish(result: Any) -> None:
    if isawaitable(result):
        await result
