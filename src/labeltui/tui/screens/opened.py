"""What the screens that open over the review screen share: a title, a body, the way back."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.widget import Widget

from labeltui.tui.actions import Keymap
from labeltui.tui.screens.deciding import Deciding
from labeltui.tui.session import Session
from labeltui.tui.widgets.paint import Lines, Piece
from labeltui.tui.widgets.rows import Rows


class Opened(Deciding):
    """A full screen: a title, the subclass's body, the status line and the keys."""

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.heading = Lines(classes="title")

    def compose(self) -> ComposeResult:
        yield self.heading
        with Container(classes="body"):
            yield Horizontal(*self.parts(), classes="parts")
            yield self.panel
            yield self.reader
        yield self.status
        yield self.footer

    def parts(self) -> Sequence[Widget]:
        """Return what stands side by side between title and status line."""
        raise NotImplementedError

    def paint(self) -> None:
        """Paint the body; called after each change of size or state."""
        raise NotImplementedError

    def entitle(self, *pieces: Piece) -> None:
        """Show the title and the keys."""
        self.heading.show([[(" ", "plain"), *pieces]])
        self.paint_footer()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < 104, "narrow")
        self.call_after_refresh(self.paint)

    def paint_all(self) -> None:
        self.paint()

    def decided(self) -> None:
        self.paint()

    def do_back(self) -> None:
        self.dismiss(None)


class WithRows(Opened):
    """An opened screen with a list that the keys move in."""

    def rows(self) -> Rows:
        """Return the list."""
        raise NotImplementedError

    def do_down(self) -> None:
        self.rows().move(1)

    def do_up(self) -> None:
        self.rows().move(-1)

    def do_page_down(self) -> None:
        self.rows().page(1)

    def do_page_up(self) -> None:
        self.rows().page(-1)

    def do_top(self) -> None:
        self.rows().go(0)

    def do_bottom(self) -> None:
        self.rows().go(self.rows().count() - 1)
