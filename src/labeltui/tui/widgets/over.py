"""Panels that open over a screen's left part: find one of many by typing, or write one line.

They leave the picture in sight, for it is what the person decides on, and repaint nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
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


class Over(Vertical):
    """A panel that has all keys until it is closed."""

    class Closed(Message):
        """The person took a value, or left without one."""

        def __init__(self, over: Over, value: Any) -> None:
            super().__init__()
            self.over = over
            self.value = value

    def __init__(self, title: str, take: Callable[[Any], object]) -> None:
        super().__init__(classes="over")
        self.heading = title
        self.take = take
        self.line = Input(compact=True, select_on_focus=False)
        self.hint = Lines(classes="hint")

    def close(self, value: Any = None) -> None:
        """Leave; None means that nothing was taken."""
        self.post_message(self.Closed(self, value))

    def pressed(self, key: str) -> bool:
        """Handle a key that the line of text has no use for; False if it means nothing here."""
        if key in ("escape", "ctrl+c"):
            self.close()
            return True
        return False

    def on_key(self, event: events.Key) -> None:
        if self.pressed(event.key):
            event.prevent_default()
            event.stop()


class Prompt(Over):
    """Asks for one line of text; takes a str, which may be empty."""

    def __init__(self, title: str, take: Callable[[str], object], value: str = "", hint: str = "") -> None:
        super().__init__(title, take)
        self.value = value
        self.words = hint

    def compose(self) -> ComposeResult:
        heading = Lines(classes="heading")
        heading.show([[(self.heading, "title")]])
        yield heading
        self.line.value = self.value
        yield self.line
        self.hint.show(
            [
                [
                    ("⏎", "key"),
                    (" take  ", "plain"),
                    ("esc", "key"),
                    (" back  ", "plain"),
                    (self.words, "faint"),
                ]
            ]
        )
        yield self.hint

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        self.close(event.value)


class _Matches(Rows, Generic[V], can_focus=False):
    lit = True

    def __init__(self, items: Sequence[Item[V]]) -> None:
        super().__init__(id="matches")
        self.items = items
        self.found = list(range(len(items)))

    def count(self) -> int:
        return len(self.found)

    def pieces(self, row: int, width: int) -> list[Piece]:
        item = self.items[self.found[row]]
        right = min(len(item.right), width // 3)
        text = fit(item.text, width - right - 1)
        return [(text, "plain"), (" ", "plain"), (fit(item.right, right, right=True), "key")]


class Finder(Over, Generic[V]):
    """Finds one of many by typing; takes the value of an `Item`."""

    def __init__(self, title: str, items: Sequence[Item[V]], take: Callable[[V], object]) -> None:
        super().__init__(title, take)
        self.items = items
        self.matches: _Matches[V] = _Matches(items)

    def compose(self) -> ComposeResult:
        heading = Lines(classes="heading")
        heading.show([[(self.heading, "title")]])
        yield heading
        yield self.line
        yield self.matches
        yield self.hint

    def on_mount(self) -> None:
        self._count("")

    def _count(self, query: str) -> None:
        found = self.matches.count()
        count = f"{found:,} of {len(self.items):,}" if found else f"nothing matches {safe(query)}"
        keys: list[Piece] = [("⏎", "key"), (" take  ", "plain"), ("esc", "key"), (" back  ", "plain")]
        self.hint.show([[*keys, (count, "faint" if found else "warn")]])

    @on(Input.Changed)
    def _search(self, event: Input.Changed) -> None:
        self.matches.found = rank(event.value, self.items)
        self.matches.reset(0)
        self._count(event.value)

    @on(Input.Submitted)
    @on(Rows.Chosen)
    def _take(self) -> None:
        if self.matches.count():
            self.close(self.items[self.matches.found[self.matches.row]].value)

    def pressed(self, key: str) -> bool:
        moves = {"up": -1, "down": 1, "ctrl+p": -1, "ctrl+n": 1}
        if key in moves:
            self.matches.move(moves[key])
        elif key in ("pageup", "pagedown"):
            self.matches.page(-1 if key == "pageup" else 1)
        else:
            return super().pressed(key)
        return True
