"""What the screens that open over the review screen share: a title, a body, the way back."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.widget import Widget

from labeltui.tui.actions import Keymap
from labeltui.tui.layout import Piece, cells, fit_end
from labeltui.tui.screens.base import TableScreen
from labeltui.tui.screens.deciding import Deciding
from labeltui.tui.session import Session
from labeltui.tui.widgets.labels import labels_title
from labeltui.tui.widgets.paint import Lines
from labeltui.tui.widgets.rows import Rows


class Opened(Deciding):
    """A full screen: a title, the subclass's body, the status line and the keys."""

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.heading = Lines(classes="title")

    def compose(self) -> ComposeResult:
        self._fit(
            self.app.size.width
        )  # once the screen is painted, every style on it would be worked out anew
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
        """Show the title, behind the screens that lie below, and the keys."""
        self.heading.show([[(f" {self._below()}", "faint"), *pieces]])
        self.paint_footer()

    def entitle_sample(self, title: str, sample: int, *more: Piece) -> None:
        """Show a title with the name and labels of a sample; the name is cut first.

        Parameters
        ----------
        title : str
        sample : int
        *more : Piece
            Further parts of the line.
        """
        room = self.app.size.width - 1 - cell_len(self._below()) - cells([(title, ""), *more]) - 4
        labels = labels_title(self.session, sample, max(20, room - 6))
        name = self.session.audit.sample_name(sample)
        name = fit_end(name, max(6, min(cell_len(name), room - cells(labels))))
        self.entitle((f"{title}  ", "title"), (f"{name}  ", "plain"), *labels, *more)

    def _below(self) -> str:
        """Return the names of the screens below this one, the way back."""
        stack = self.app.screen_stack
        below = stack[: stack.index(self)] if self in stack else stack
        return "".join(f"{screen.name_in_table} › " for screen in below if isinstance(screen, TableScreen))

    def on_resize(self, event: events.Resize) -> None:
        self._fit(event.size.width)
        self.call_after_refresh(self.paint)

    def _fit(self, width: int) -> None:
        self.set_class(width < 104, "narrow")

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
