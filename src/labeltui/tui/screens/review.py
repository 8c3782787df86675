"""The review screen: classes, queue, preview; one key decides."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget

from labeltui.errors import LabeltuiError
from labeltui.text import safe
from labeltui.tui import guide, state
from labeltui.tui.actions import Keymap
from labeltui.tui.layout import cells
from labeltui.tui.requirements import Context
from labeltui.tui.screens.headlines import audit_line, checks_line, new_scores, queue_title, run_line
from labeltui.tui.screens.narrowing import COLUMNS, Narrowing
from labeltui.tui.session import Session
from labeltui.tui.theme import THEMES
from labeltui.tui.widgets.classes import Classes
from labeltui.tui.widgets.over import Item
from labeltui.tui.widgets.paint import Lines
from labeltui.tui.widgets.preview import Preview
from labeltui.tui.widgets.queue import Queue
from labeltui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from labeltui.audit import Change
    from labeltui.train.curves import Curve
    from labeltui.train.jobs import Job

NARROW = 104
PANES = ("classes", "queue", "preview")
LETTERS = "asdfghjklqwertyuiopzxcvbnmASDFGHJKLQWERTYUIOPZXCVBNM"
"""Names of places in jump mode; the first three are the panes."""


class Saved(Message):
    """The journal tried to save, or did; sent by its thread."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Saved)


class ReviewScreen(Narrowing):
    """The screen people spend hours in."""

    name_in_table = "review"

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.header = Lines(id="header")
        self.class_list = Classes(session)
        self.classes_title = Lines(classes="pane-title")
        self.queue = Queue(session)
        self.queue_title = Lines(classes="pane-title")
        self.preview = Preview(session)
        self.preview_title = Lines(classes="pane-title")
        self.checks_line = Lines(id="checks")
        self.train_line = Lines(id="train")
        self.pane = "queue"
        self._unsaved = False
        self._flag_before_checks: int | None = None
        self.letters: dict[str, tuple[str, int]] = {}

    def compose(self) -> ComposeResult:
        self._fit(
            self.app.size.width
        )  # once the screen is painted, every style on it would be worked out anew
        yield self.header
        with Horizontal(id="panes"):
            with Vertical(id="classes-pane", classes="pane"):
                yield self.classes_title
                yield self.class_list
            with Vertical(id="queue-pane", classes="pane"):
                yield self.queue_title
                yield self.queue
            with Vertical(id="preview-pane", classes="pane"):
                yield self.preview_title
                yield self.preview
        yield self.checks_line
        yield self.train_line
        yield self.status
        yield self.footer

    async def bring_panels(self) -> None:
        """Mount what stands outside the border while closed: a third of the widgets, none of the first image."""
        await self.query_one("#panes").mount(self.panel, self.reader)

    def on_mount(self) -> None:
        self.session.audit.on_saved = self._tell_saved
        self.queue.moved = self._moved
        self.enter_pane("queue")
        self.paint_titles()
        if problems := self.keymap.problems:
            more = f"  (and {len(problems) - 1} more: {self.keymap.hint('help')})"
            self.say(problems[0] + (more if len(problems) > 1 else ""), "warn")

    def on_resize(self, event: events.Resize) -> None:
        self._fit(event.size.width)
        self.call_after_refresh(self.paint_all)

    def _fit(self, width: int) -> None:
        self.set_class(width < NARROW, "narrow")

    # -- painting ------------------------------------------------------------

    def paint_all(self) -> None:
        """Paint every part from the session."""
        self.queue.reset(self.session.row)
        self.class_list.show()
        self.paint_titles()
        self.preview.show()

    def paint_titles(self) -> None:
        """Paint header, titles and footer."""
        session = self.session
        self.paint_header()
        letter = {
            pane: f" {letter} " if self.letters else " " for pane, letter in zip(PANES, LETTERS, strict=False)
        }
        self.classes_title.show(
            [
                [
                    (letter["classes"], "key"),
                    ("CLASSES", "title"),
                    (f" by {COLUMNS[session.class_order].split(' ')[0]}", "faint"),
                ]
            ]
        )
        wide = self.app.size.width  # before the first layout no widget has a size
        self.queue_title.show([queue_title(session, letter["queue"], self.queue.size.width or wide)])
        mark, word = (letter["preview"], "key"), ("PREVIEW  ", "title")
        room = (self.preview_title.size.width or wide) - cells([mark])
        title = self.preview.title(room)
        if cells([word, *title]) > room:  # the labels are more telling than the word
            word = ("", "plain")
        self.preview_title.show([[mark, word, *title]])
        self.paint_checks()
        self.paint_footer()

    def paint_checks(self) -> None:
        """Paint what the random checks say; hidden while they are off."""
        session = self.session
        shown = session.checking
        if shown != self.checks_line.display:
            self.checks_line.display = shown
        if shown:
            self.checks_line.show([checks_line(session, self.size.width >= NARROW)])

    def paint_header(self) -> None:
        """Paint the line at the top."""
        self.header.show([audit_line(self.session, self.app.size.width)])

    # -- what holds ------------------------------------------------------------

    def context(self) -> Context:
        return replace(super().context(), pane=self.pane)

    # -- moving ------------------------------------------------------------

    def _rows(self) -> Rows:
        return self.class_list if self.pane == "classes" else self.queue

    def do_down(self) -> None:
        self._rows().move(1)

    def do_up(self) -> None:
        self._rows().move(-1)

    def do_page_down(self) -> None:
        self._rows().page(1)

    def do_page_up(self) -> None:
        self._rows().page(-1)

    def do_top(self) -> None:
        self._rows().go(0)

    def do_bottom(self) -> None:
        self._rows().go(self._rows().count() - 1)

    def enter_pane(self, pane: str) -> None:
        """Let keys go to a pane."""
        self.pane = pane
        self.class_list.lit = pane == "classes"
        self.queue.lit = pane == "queue"
        titles = zip(PANES, (self.classes_title, self.queue_title, self.preview_title), strict=True)
        for name, title in titles:
            title.lay("cursor" if name == pane else "")
        self.paint_footer()

    def do_next_pane(self) -> None:
        self.enter_pane(PANES[(PANES.index(self.pane) + 1) % len(PANES)])

    def do_previous_pane(self) -> None:
        self.enter_pane(PANES[PANES.index(self.pane) - 1])

    def do_open(self) -> None:
        if self.pane == "classes":
            self.open_class(self.class_list.label(self.class_list.row))
            self.enter_pane("queue")
        elif self.session.sample is None:
            self.say("no sample is open", "warn")
        elif self.session.audit.images.present:
            self.do_large()
        else:
            self.do_neighbours()

    def do_back(self) -> None:
        if screen := self.session.go_back():
            self.class_list.put(self.session.spec.given)
            self.paint_all()
            {"pairs": self.do_pairs, "conflicts": self.do_conflicts}[screen]()
        elif self.pane != "classes":
            self.enter_pane(PANES[PANES.index(self.pane) - 1])

    async def clicked(self, widget: Widget, y: int) -> None:
        for pane in PANES:
            if self.query_one(f"#{pane}-pane") in widget.ancestors:
                self.enter_pane(pane)
        await super().clicked(widget, y)

    def chosen(self, rows: Rows) -> None:
        if rows in (self.class_list, self.queue):
            self.do_open()

    def _moved(self, row: int) -> None:
        self.session.row = row
        self.paint_titles()
        self.preview.show()

    def open_class(self, label: int | None) -> None:
        """Open a class's queue."""
        self.say("")  # what was said of the last queue
        self.session.open_class(label)
        self.class_list.put(label)
        self.paint_all()

    def do_next_class(self) -> None:
        self._step_class(1)

    def do_previous_class(self) -> None:
        self._step_class(-1)

    def _step_class(self, by: int) -> None:
        row = self.class_list.row_of(self.session.spec.given) + by
        self.open_class(self.class_list.label(row % self.class_list.count()))

    # Other views

    def _push(self, module: str, name: str) -> None:
        screen = getattr(import_module(f"labeltui.tui.screens.{module}"), name)
        self.app.push_screen(screen(self.session, self.keymap))

    def do_neighbours(self) -> None:
        sample = self.session.sample
        if sample is not None and self.session.hidden(sample):
            self.say("a random check is decided by its image; its neighbours are shown afterwards", "warn")
            return
        self._push("neighbours", "NeighboursScreen")

    def do_sheet(self) -> None:
        self._push("sheet", "SheetScreen")

    def do_pairs(self) -> None:
        self._push("pairs", "PairsScreen")

    def do_plots(self) -> None:
        self._push("plots", "PlotsScreen")

    def do_runs(self) -> None:
        self._push("runs", "RunsScreen")

    def do_conflicts(self) -> None:
        self._push("conflicts", "ConflictsScreen")

    def do_large(self) -> None:
        self._push("image", "ImageScreen")

    def do_checks(self) -> None:
        session = self.session
        session.checks.on = not session.checks.on
        if session.checks.on:
            self._flag_before_checks = session.sample
            session.open(session.spec)
        else:  # back to the flag; the check looked at last is none, and must not stand among what bulk decides on
            session.open(session.spec)
            if self._flag_before_checks is not None and self._flag_before_checks in session.queue:
                session.visit(self._flag_before_checks)
        self.paint_all()
        if not session.checks.on:
            self.say("the flags again")
        elif not session.checking:
            key = self.keymap.hint("clear-filters")
            self.say(f"random checks take the place of undecided flags; {key} clears the filters", "warn")
        else:
            self.say("random checks: is the given label right? judge by the image alone")

    def do_source(self) -> None:
        audit = self.session.audit

        def take(text: str) -> None:
            root = Path(text).expanduser()
            if not root.is_dir():
                self.say(f"there is no directory {safe(text)}", "warn")
                return
            audit.move_source(root)
            self.preview.forget()
            self.preview.show()
            self.say(f"images come from {safe(str(root), 40)} now; --source keeps it so")

        self.panel.ask(
            "Where are the images?", take, str(audit.images.root or ""), "the directory that was scanned"
        )

    # Marks and bulk

    def do_mark(self) -> None:
        self.session.mark()
        self.queue.repaint(self.queue.row)
        if not self.queue.move(1):
            self.paint_titles()

    def do_mark_all(self) -> None:
        self.say(self.session.mark_all())
        self.queue.refresh()
        self.paint_titles()

    def do_bulk(self) -> None:
        from labeltui.tui.screens.bulk import choose

        choose(self)

    # Jumping

    def do_jump(self) -> None:
        free = iter(LETTERS)
        self.letters = {next(free): (pane, -1) for pane in PANES}
        for pane, rows in (("classes", self.class_list), ("queue", self.queue)):
            rows.letters = {}
            for row in rows.visible_rows():
                letter = next(free, None)
                if letter is not None:
                    self.letters[letter] = (pane, row)
                    rows.letters[row] = letter
            rows.refresh()
        self.paint_titles()
        self.say("jump to a letter; any other key cancels")

    def intercept(self, event: events.Key) -> bool:
        if not self.letters:
            return False
        place = self.letters.get(event.character or "")
        self.letters = {}
        self.class_list.letters, self.queue.letters = {}, {}
        self.class_list.refresh()
        self.queue.refresh()
        self.say("")
        if place is not None:
            pane, row = place
            self.enter_pane(pane)
            if row >= 0:
                (self.class_list if pane == "classes" else self.queue).go(row)
        self.paint_titles()
        return True

    # -- deciding ------------------------------------------------------------

    def renewed(self) -> None:
        self.paint_all()

    def decided(self) -> None:
        session = self.session
        if self.queue.shown is not session.queue:
            self.queue.reset(session.row)
        else:
            self.queue.repaint(self.queue.row)
            self.queue.go(session.row, tell=False)
        self.class_list.show()
        self.paint_titles()
        self.preview.show()

    def _tell_saved(self) -> None:
        if self.is_running:
            self.post_message(Saved())

    @on(Saved)
    def _saved(self) -> None:
        self.paint_header()
        if failed := self.session.audit.failed:
            self._unsaved = True
            self.say(f"not saved: {failed.message}; {failed.got}. {failed.hint}", "bad")
        elif self._unsaved:
            self._unsaved = False
            self.say("✓ everything is saved again", "good")

    # -- training ------------------------------------------------------------

    def do_train(self) -> None:
        self.host.training.start()

    def do_cancel_training(self) -> None:
        self.host.training.cancel()

    def show_job(self, job: Job | None, curve: Curve | None = None) -> None:
        """Show the line of the active training run; hidden without one.

        Parameters
        ----------
        job : Job or None
        curve : Curve, optional
        """
        shown = job is not None and job.active
        if shown != self.train_line.display:
            self.train_line.display = shown
            self.call_after_refresh(self.paint_footer)
        if job is not None and shown:
            self.train_line.show([run_line(job, curve, self.size.width >= NARROW)])

    def adopted(self, change: Change) -> None:
        """Paint after new scores arrived."""
        self.paint_all()
        self.say(new_scores(change), "good")

    # -- others ------------------------------------------------------------

    def do_export(self) -> None:
        def where(only_changed: bool) -> None:
            name = self.session.audit.path.name.removesuffix(".audit") + ".labels.csv"
            self.panel.ask("Write to which file?", lambda path: self._export(path, only_changed), name)

        what = [Item("every sample, with its corrected label", False), Item("only what changed", True)]
        self.panel.find("Export which samples?", what, where)

    def _export(self, path: str, only_changed: bool) -> None:
        if not path.strip():
            self.say("no file was named", "warn")
            return
        out = Path(path).expanduser()

        def replace(force: bool) -> None:
            if force:
                self.host.export(out, only_changed, force=True)
            else:
                self.panel.ask("Write to which file?", lambda path: self._export(path, only_changed), path)

        if out.is_file():
            choices = [Item("choose another name", False), Item("replace it", True)]
            self.panel.find(f"{safe(path)} exists", choices, replace)
        else:
            self.host.export(out, only_changed, force=False)

    async def do_noise_budget(self) -> None:
        audit, room = self.session.audit, self.reader.room

        def measure() -> guide.Text:
            from labeltui.studies.estimation import estimate

            return guide.noise_budget(estimate(audit), shlex.quote(str(audit.path)), room)

        # Keys that follow wait for it, and then act on what is shown.
        try:
            self.reader.read("Noise budget", await asyncio.to_thread(measure))
        except LabeltuiError as error:
            self.say(f"{error.message}: {error.got}", "warn")

    def do_theme(self) -> None:
        before = self.app.theme

        def show(name: str) -> None:
            if name != self.app.theme:
                self.app.theme = name

        def take(name: str) -> None:
            show(name)
            state.save_choice("theme", name)

        items = [Item(theme.name, theme.name, "now" if theme.name == before else "") for theme in THEMES]
        items.sort(key=lambda item: item.value != before)
        self.panel.find("Theme", items, take, preview=show, leave=lambda: show(before))
