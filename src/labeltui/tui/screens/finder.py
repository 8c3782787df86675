"""Find one of many by typing: classes, actions, themes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from labeltui.text import safe
from labeltui.tui.widgets.paint import Lines, Piece, fit
from labeltui.tui.widgets.rows import Rows

V = TypeVar("V")


@dataclass(frozen=True)
class Item(Generic[V]):
    """One choice: what is searched and shown, what stands right of it, and what comes back."""

    text: str
    value: V
    right: str = ""


def rank(query: str, items: Sequence[Item[V]]) -> list[int]:
    """Return the places of the items that match, best first.

    All words of the query must occur; a match at the start of a word beats one inside, a name of equal length
    beats a longer one, and equals keep their order. If nothing matches, letters in order are enough (``bdg``
    finds budgie).
    """
    words = query.casefold().split()
    if not words:
        return list(range(len(items)))
    found = []
    for place, item in enumerate(items):
        text = item.text.casefold()
        cost = 0
        for word in words:
            at = text.find(word)
            if at < 0:
                break
            cost += 0 if at == 0 else 1 if not text[at - 1].isalnum() else 2
        else:
            found.append((cost, text != query.casefold(), place))
    if found:
        return [place for _, _, place in sorted(found)]
    letters = "".join(words)
    return [place for place, item in enumerate(items) if _in_order(letters, item.text.casefold())]


def _in_order(letters: str, text: str) -> bool:
    at = -1
    for letter in letters:
        at = text.find(letter, at + 1)
        if at < 0:
            return False
    return True


class _Matches(Rows, Generic[V], can_focus=False):
    def __init__(self, items: Sequence[Item[V]]) -> None:
        super().__init__(id="matches")
        self.items = items
        self.found = list(range(len(items)))

    def count(self) -> int:
        return len(self.found)

    def pieces(self, row: int, width: int) -> list[Piece]:
        item = self.items[self.found[row]]
        right = min(len(item.right), width // 3)
        return [
            (fit(item.text, width - right - 1), "plain"),
            (" ", "plain"),
            (fit(item.right, right), "faint"),
        ]


class Finder(ModalScreen[V | None], inherit_bindings=False):
    """A line to type into and the matches below it; Enter takes, Escape leaves."""

    def __init__(
        self, title: str, items: Sequence[Item[V]], on_move: Callable[[V], None] | None = None
    ) -> None:
        super().__init__()
        self.heading = title
        self.items = items
        self.on_move = on_move

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Lines(classes="heading")
            yield Input(id="query", compact=True)
            yield _Matches(self.items)
            yield Lines(classes="hint")

    def on_mount(self) -> None:
        self.query_one(".heading", Lines).show([[(self.heading, "title")]])
        self.query_one(Input).focus()
        self._hint()

    def _hint(self) -> None:
        count = self.query_one(_Matches).count()
        none = f"nothing matches {safe(self.query_one(Input).value)}"
        text = f"{count:,} of {len(self.items):,}" if count else none
        self.query_one(".hint", Lines).show([[("⏎ take  ", "key"), ("esc back  ", "key"), (text, "faint")]])

    @on(Input.Changed)
    def _search(self, event: Input.Changed) -> None:
        matches: _Matches[V] = self.query_one(_Matches)
        matches.found = rank(event.value, self.items)
        matches.reset(0)
        self._hint()

    @on(Input.Submitted)
    def _take(self) -> None:
        matches: _Matches[V] = self.query_one(_Matches)
        if matches.count():
            self.dismiss(self.items[matches.found[matches.row]].value)

    @on(Rows.Chosen)
    def _clicked(self) -> None:
        self._take()

    def on_key(self, event: events.Key) -> None:
        matches: _Matches[V] = self.query_one(_Matches)
        moves = {"up": -1, "down": 1, "ctrl+p": -1, "ctrl+n": 1}
        if event.key in ("escape", "ctrl+c"):
            self.dismiss(None)
        elif event.key in moves:
            matches.move(moves[event.key])
        elif event.key in ("pageup", "pagedown"):
            matches.page(-1 if event.key == "pageup" else 1)
        else:
            return
        event.stop()
        event.prevent_default()
