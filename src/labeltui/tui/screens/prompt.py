"""Ask for one line of text."""

from __future__ import annotations

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from labeltui.tui.widgets.paint import Lines


class Prompt(ModalScreen[str | None], inherit_bindings=False):
    """A title, a line to type into, a hint; Enter takes the text, Escape leaves."""

    def __init__(self, title: str, value: str = "", hint: str = "") -> None:
        super().__init__()
        self.heading = title
        self.value = value
        self.hint = hint

    def compose(self) -> ComposeResult:
        with Vertical(classes="box small"):
            yield Lines(classes="heading")
            yield Input(self.value, compact=True, select_on_focus=False)
            yield Lines(classes="hint")

    def on_mount(self) -> None:
        self.query_one(".heading", Lines).show([[(self.heading, "title")]])
        self.query_one(".hint", Lines).show([[("⏎ take  esc back  ", "key"), (self.hint, "faint")]])
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)

    def on_key(self, event: events.Key) -> None:
        if event.key in ("escape", "ctrl+c"):
            event.stop()
            event.prevent_default()
            self.dismiss(None)
