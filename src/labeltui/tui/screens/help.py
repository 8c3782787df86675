"""All keys of a screen and what the words mean."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen

from labeltui.tui.actions import Keymap, collapsed, of_screen
from labeltui.tui.widgets.paint import Lines, Piece, fit
from labeltui.tui.widgets.rows import Rows


class _Text(Rows, can_focus=True):
    def __init__(self, lines: list[list[Piece]]) -> None:
        super().__init__(id="text")
        self.text_lines = lines

    def count(self) -> int:
        return len(self.text_lines)

    def pieces(self, row: int, width: int) -> list[Piece]:
        return self.text_lines[row]


class HelpScreen(ModalScreen[None], inherit_bindings=False):
    """Help made from the actions table."""

    def __init__(self, keymap: Keymap, screen: str) -> None:
        super().__init__()
        lines: list[list[Piece]] = []
        group = ""
        for action in collapsed(of_screen(screen)):
            if action.group != group:
                group = action.group
                lines += [[], [(group.upper(), "title")]]
            keys = keymap.shown(action)
            lines.append(
                [
                    (fit(keys, 14), "key"),
                    (fit(action.family or action.verb, 16), "strong"),
                    (action.description, "plain"),
                ]
            )
        self.lines = lines[1:]

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Lines(classes="heading")
            yield _Text(self.lines)
            yield Lines(classes="hint")

    def on_mount(self) -> None:
        self.query_one(".heading", Lines).show([[("Help", "title")]])
        self.query_one(".hint", Lines).show([[("↑↓ scroll  esc back", "key")]])
        self.query_one(_Text).focus()

    def on_key(self, event: events.Key) -> None:
        text = self.query_one(_Text)
        moves = {"up": -1, "down": 1, "k": -1, "j": 1}
        if event.key in moves:
            text.move(moves[event.key])
        elif event.key in ("pageup", "pagedown"):
            text.page(-1 if event.key == "pageup" else 1)
        else:
            self.dismiss(None)
        event.stop()
