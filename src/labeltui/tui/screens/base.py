"""What all screens share: keys from the actions table, one line for feedback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from textual.binding import BindingsMap
from textual.screen import Screen

from labeltui.tui.actions import BY_ID, Action, Context, Keymap, of_screen

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
        self._bindings = BindingsMap(keymap.bindings(self.name_in_table))

    @property
    def labeltui(self) -> LabeltuiApp:
        """The application, with its type."""
        return cast("LabeltuiApp", self.app)

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

    def action_do(self, id_: str) -> Any:
        """Run an action of the table, or say why it is not possible now."""
        action = BY_ID[id_]
        if reason := action.law(self.context()):
            self.say(reason, "warn")
            return None
        handler = getattr(self, f"do_{action.handler}")
        return handler() if action.argument is None else handler(action.argument)
