"""A panel over a screen's left part: find one of many by typing, or write one line.

It leaves the image in sight, for that is what the person decides on. It stands outside the screen's border while it
is closed: moving it in repaints what it covers and nothing else, where mounting would repaint the screen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical

from labeltui.text import fold, safe
from labeltui.tui.layout import Piece, fit
from labeltui.tui.widgets.paint import Lines
from labeltui.tui.widgets.rows import Rows

V = TypeVar("V")
OUTSIDE = 1000
"""Rows below its place at which a closed panel waits."""


class Item(NamedTuple, Generic[V]):
    """One choice.

    Attributes
    ----------
    text : str
        Searched and shown.
    value : object
        What selecting it gives.
    right : str
        Shown right of it.
    more : str
        Searched, and shown behind the text as far as there is room.
    also : str
        Searched, but not shown.
    """

    text: str
    value: V
    right: str = ""
    more: str = ""
    also: str = ""


def rank(query: str, items: Sequence[Item[V]]) -> list[int]:
    """Return the places of the items that match, best first.

    All words of the query must occur; a match at the start of the text beats one at the start of a word, that beats
    one inside, that beats one behind the text, and equals keep their order, except that the very text that was
    typed comes first. If nothing matches, letters in order are enough (``bdg`` finds budgie).

    Parameters
    ----------
    query : str
    items : sequence of Item

    Returns
    -------
    list of int
    """
    words = fold(query).split()
    if not words:
        return list(range(len(items)))
    found = []
    for place, item in enumerate(items):
        text, also = fold(item.text), fold(f"{item.more} {item.also}")
        cost = 0
        for word in words:
            at = text.find(word)
            if at < 0 and word not in also:
                break
            cost += 3 if at < 0 else 0 if at == 0 else 1 if not text[at - 1].isalnum() else 2
        else:
            found.append((text != fold(query), cost, place))
    if found:
        return [place for _, _, place in sorted(found)]
    letters = "".join(words)
    return [place for place, item in enumerate(items) if _in_order(letters, fold(item.text))]


def _in_order(letters: str, text: str) -> bool:
    at = -1
    for letter in letters:
        at = text.find(letter, at + 1)
        if at < 0:
            return False
    return True


class Field(Lines):
    """One line of text that a person writes; the cursor does not blink, for that would cost bytes for ever."""

    def __init__(self) -> None:
        super().__init__(id="field")
        self.value = ""
        self.at = 0

    def set(self, value: str) -> None:
        """Put text in, the cursor behind it."""
        self.value, self.at = value, len(value)
        self.paint()

    def type(self, text: str) -> None:
        """Insert text at the cursor; what cannot stand in one line is left out."""
        text = "".join(character for character in text if character.isprintable())
        self.value = self.value[: self.at] + text + self.value[self.at :]
        self.at += len(text)
        self.paint()

    def edit(self, key: str) -> bool:
        """Handle a key that moves or deletes; False if it means nothing here."""
        before, behind = self.value[: self.at], self.value[self.at :]
        if key == "left":
            self.at = max(0, self.at - 1)
        elif key == "right":
            self.at = min(len(self.value), self.at + 1)
        elif key in ("home", "ctrl+a"):
            self.at = 0
        elif key in ("end", "ctrl+e"):
            self.at = len(self.value)
        elif key == "backspace":
            self.value, self.at = before[:-1] + behind, len(before[:-1])
        elif key in ("delete", "ctrl+d"):
            self.value = before + behind[1:]
        elif key == "ctrl+u":
            self.value, self.at = behind, 0
        elif key == "ctrl+k":
            self.value = before
        elif key == "ctrl+w":
            kept = before.rstrip()
            kept = kept[: kept.rfind(" ") + 1]
            self.value, self.at = kept + behind, len(kept)
        else:
            return False
        self.paint()
        return True

    def paint(self) -> None:
        """Show the part of the text around the cursor."""
        width = max(4, self.size.width - 1)
        start = max(0, self.at - width + 1)
        shown = [safe(character) for character in self.value[start : start + width]]
        at = self.at - start
        before, under, behind = shown[:at], shown[at : at + 1], shown[at + 1 :]
        self.show(
            [[("".join(before), "plain"), ("".join(under) or " ", "caret"), ("".join(behind), "plain")]]
        )


class Matches(Rows):
    """The items that match."""

    def __init__(self) -> None:
        super().__init__(id="matches")
        self.items: Sequence[Item[Any]] = ()
        self.found: list[int] = []
        self.column = 0
        """Cells of the texts, where more stands behind them."""

    def count(self) -> int:
        return len(self.found)

    def pieces(self, row: int, width: int) -> list[Piece]:
        item = self.items[self.found[row]]
        right = min(cell_len(item.right), width // 3)
        room = width - right - 1
        first = fit(item.text, min(room, self.column) if item.more else room)
        return [
            (first, "plain"),
            (fit(item.more, max(0, room - cell_len(first))), "faint"),
            (" ", "plain"),
            (fit(item.right, right, right=True), "key"),
        ]


class Entry(NamedTuple):
    """What stays together when a text is searched; a heading is left out then."""

    lines: Sequence[list[Piece]]
    heading: bool = False

    @property
    def text(self) -> str:
        """What it says."""
        return " ".join(text for line in self.lines for text, _ in line)


class Text(Rows):
    """Lines to read."""

    def __init__(self, *, id: str = "text") -> None:
        super().__init__(id=id)
        self.text_lines: list[list[Piece]] = []

    def count(self) -> int:
        return len(self.text_lines)

    def pieces(self, row: int, width: int) -> list[Piece]:
        return self.text_lines[row]


class Reader(Vertical):
    """A panel to read, and to search if it was given entries; any key that does neither closes it."""

    def __init__(self) -> None:
        super().__init__(id="reader", classes="over")
        self.heading = Lines(classes="heading")
        self.text = Text()
        self.hint = Lines(classes="hint")
        self.is_open = False
        self._title = ""
        self._query = ""
        self._entries: Sequence[Entry] = ()

    def compose(self) -> ComposeResult:
        yield self.heading
        yield self.text
        yield self.hint

    def on_mount(self) -> None:
        if not self.is_open:  # it may be opened before it is there
            self.styles.offset = (0, OUTSIDE)
        self.text.lit = True

    @property
    def room(self) -> int:
        """Cells of a line of text."""
        return max(20, self.text.size.width - 2)

    def read(self, title: str, lines: list[list[Piece]]) -> None:
        """Show lines of text.

        Parameters
        ----------
        title : str
        lines : list of list of Piece
        """
        self._open(title, ())
        self._show(lines, [("[↑↓]", "key"), (" scroll   press any key to close", "plain")])

    def search(self, title: str, entries: Sequence[Entry]) -> None:
        """Show entries; typing leaves those that contain the text.

        Parameters
        ----------
        title : str
        entries : sequence of Entry
        """
        self._open(title, entries)
        self._find()

    def _open(self, title: str, entries: Sequence[Entry]) -> None:
        self._title, self._query, self._entries = title, "", entries
        self.is_open = True
        self.styles.offset = (0, 0)

    def _show(self, lines: list[list[Piece]], hint: list[Piece]) -> None:
        found = f"   search: {safe(self._query)}" if self._query else ""
        self.heading.show([[(self._title, "title"), (found, "strong")]])
        self.text.text_lines = lines
        self.text.reset(0)
        self.hint.show([hint])

    def _find(self) -> None:
        words = fold(self._query).split()
        shown = [
            entry
            for entry in self._entries
            if not words or (not entry.heading and all(word in fold(entry.text) for word in words))
        ]
        lines = [line for entry in shown for line in entry.lines]
        keys: list[Piece] = [("[↑↓]", "key"), (" scroll ", "plain"), ("[esc]", "key"), (" close   ", "plain")]
        said: Piece = ("type to search", "faint")
        if words:
            said = (f"{len(shown):,} found", "faint") if shown else ("nothing holds this", "warn")
        self._show(lines, [*keys, said])

    def press(self, key: str, character: str | None = None) -> None:
        """Handle a key."""
        if key in ("up", "down") or (key in ("k", "j") and not self._entries):
            self.text.move(-1 if key in ("up", "k") else 1)
        elif key in ("pageup", "pagedown"):
            self.text.page(-1 if key == "pageup" else 1)
        elif self._entries and key == "backspace":
            self._query = self._query[:-1]
            self._find()
        elif self._entries and character is not None and character.isprintable():
            self._query += character
            self._find()
        else:
            self.is_open = False
            self.styles.offset = (0, OUTSIDE)


class Panel(Vertical):
    """The panel of one screen; it has all keys while it is open."""

    def __init__(self) -> None:
        super().__init__(id="panel", classes="over")
        self.heading = Lines(classes="heading")
        self.field = Field()
        self.matches = Matches()
        self.hint = Lines(classes="hint")
        self.is_open = False
        self._finding = False
        self._take: Callable[[Any], object] = lambda value: None
        self._preview: Callable[[Any], object] = lambda value: None
        self._leave: Callable[[], object] = lambda: None

    def compose(self) -> ComposeResult:
        yield self.heading
        yield self.field
        yield self.matches
        yield self.hint

    def on_mount(self) -> None:
        if not self.is_open:  # it may be asked for before it is there
            self.styles.offset = (0, OUTSIDE)
        self.matches.lit = True
        self.matches.moved = lambda row: self._at_cursor()

    def find(
        self,
        title: str,
        items: Sequence[Item[V]],
        take: Callable[[V], object],
        query: str = "",
        preview: Callable[[V], object] = lambda value: None,
        leave: Callable[[], object] = lambda: None,
    ) -> None:
        """Ask the user to select an item.

        Parameters
        ----------
        title : str
        items : sequence of Item
        take : callable
            Called with the value of the selected item; not called on escape.
        query : str
            Initial query.
        preview : callable
            Called with the value of each item that the cursor comes to.
        leave : callable
            Called on escape.
        """
        self.matches.items = items
        self.matches.column = max((cell_len(item.text) for item in items), default=0) + 2
        self.matches.found = rank(query, items)
        self._preview, self._leave = preview, leave
        self._open(title, take, query, finding=True)

    def ask(self, title: str, take: Callable[[str], object], value: str = "", hint: str = "") -> None:
        """Ask the user for a line of text.

        Parameters
        ----------
        title : str
        take : callable
            Called with the line, which may be empty; not called on escape.
        value : str
            Initial text.
        hint : str
        """
        self.matches.items, self.matches.found = (), []
        self._preview, self._leave = lambda value: None, lambda: None
        self._open(title, take, value, finding=False, hint=hint)

    def _open(
        self, title: str, take: Callable[[Any], object], value: str, finding: bool, hint: str = ""
    ) -> None:
        self._take, self._finding = take, finding
        self.heading.show([[(title, "title")]])
        self.field.set(value)
        self.matches.reset(0)
        self._show_hint(hint)
        self.is_open = True
        self.styles.offset = (0, 0)

    def close(self) -> None:
        """Leave without taking anything."""
        self.is_open = False
        self.styles.offset = (0, OUTSIDE)

    def press(self, key: str, character: str | None) -> Callable[[], object] | None:
        """Handle a key.

        Parameters
        ----------
        key : str
            Textual's name.
        character : str or None

        Returns
        -------
        callable or None
            Call of `take` with the chosen value, once there is one.
        """
        if key in ("escape", "ctrl+c"):
            self.close()
            return self._leave
        if key == "enter":
            return self._taken()
        if self._finding and key in ("up", "ctrl+p"):
            self.matches.move(-1)
        elif self._finding and key in ("down", "ctrl+n"):
            self.matches.move(1)
        elif self._finding and key in ("pageup", "pagedown"):
            self.matches.page(-1 if key == "pageup" else 1)
        elif self.field.edit(key):
            self._search()
        elif character is not None and character.isprintable():
            self.paste(character)
        return None

    def paste(self, text: str) -> None:
        """Insert text."""
        self.field.type(text)
        self._search()

    def _taken(self) -> Callable[[], object] | None:
        take = self._take
        if self._finding:
            if not self.matches.found:
                return None
            value: Any = self.matches.items[self.matches.found[self.matches.row]].value
        else:
            value = self.field.value
        self.close()
        return lambda: take(value)

    def _search(self) -> None:
        if self._finding:
            self.matches.found = rank(self.field.value, self.matches.items)
            self.matches.reset(0)
            self._at_cursor()
            self._show_hint()

    def _at_cursor(self) -> None:
        if self._finding and self.matches.found:
            self._preview(self.matches.items[self.matches.found[self.matches.row]].value)

    def _show_hint(self, hint: str = "") -> None:
        style = "faint"
        if self._finding:
            found = len(self.matches.found)
            hint = f"{found:,} of {len(self.matches.items):,}"
            if not found:
                hint, style = f"nothing matches {safe(self.field.value)}", "warn"
        keys: list[Piece] = [
            ("[⏎]", "key"),
            (" select " if self._finding else " enter ", "plain"),
            ("[esc]", "key"),
            (" back  ", "plain"),
        ]
        self.hint.show([[*keys, (hint, style)]])
