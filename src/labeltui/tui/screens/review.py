"""The review screen: classes, queue, preview; one key decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.timer import Timer

from labeltui.text import safe
from labeltui.tui.actions import Context, Keymap, collapsed
from labeltui.tui.screens.base import TableScreen
from labeltui.tui.session import Session
from labeltui.tui.widgets.classes import Classes
from labeltui.tui.widgets.paint import Lines, Piece, bar
from labeltui.tui.widgets.preview import Preview
from labeltui.tui.widgets.queue import MARKS, Queue
from labeltui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from labeltui.audit import Change
    from labeltui.tui.jobs import JobState

NARROW = 104


class ReviewScreen(TableScreen[None]):
    """The screen people spend hours in."""

    name_in_table = "review"
    AUTO_FOCUS = "#queue"

    def __init__(self, session: Session, keymap: Keymap, *, read_only: bool = False) -> None:
        super().__init__(keymap)
        self.session = session
        self.read_only = read_only
        self.header = Lines(id="header")
        self.class_list = Classes(session)
        self.classes_title = Lines(classes="pane-title")
        self.queue = Queue(session)
        self.queue_title = Lines(classes="pane-title")
        self.preview = Preview(session)
        self.preview_title = Lines(classes="pane-title")
        self.train_line = Lines(id="train")
        self.status = Lines(id="status")
        self.footer = Lines(id="footer")
        self._saving: Timer | None = None

    def compose(self) -> ComposeResult:
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
        yield self.train_line
        yield self.status
        yield self.footer

    def on_mount(self) -> None:
        self.session.load_classes()
        self.session.open_class(None)
        for problem in self.keymap.problems[:1]:
            self.say(problem, "warn")

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < NARROW, "narrow")
        self.call_after_refresh(self.paint_all)

    # -- painting ------------------------------------------------------------

    def paint_all(self) -> None:
        """Paint every part from the session."""
        self.queue.reset(self.session.row)
        self.class_list.show()
        self.paint_titles()
        self.preview.show()

    def paint_titles(self) -> None:
        """Paint header, titles and footer."""
        session, audit = self.session, self.session.audit
        self.paint_header()
        self.classes_title.show([[(" CLASSES", "title"), (f" by {session.class_order}", "faint")]])
        given = session.spec.given
        name = audit.names[given] if given is not None else "all classes"
        self.queue_title.show(
            [[(" QUEUE ", "title"), (name, "strong"), (f"  {session.left:,} flagged", "faint")]]
        )
        sample = session.sample
        self.preview_title.show(
            [[(" PREVIEW  ", "title"), *self.preview.title()]]
            if sample is not None
            else [[(" PREVIEW", "title")]]
        )
        self.paint_footer()

    def paint_header(self) -> None:
        """Paint the line at the top."""
        summary = self.session.audit.summary()
        low, high = summary.interval
        pieces: list[Piece] = [
            (" labeltui ", "title"),
            (f" {safe(self.session.audit.path.name)} ", "strong"),
            (f"  {summary.samples:,} samples  {summary.classes:,} classes", "plain"),
            ("  CSG ", "faint"),
            (f"{summary.csg:.2f}", "strong"),
            (f" ({low:.2f}..{high:.2f})", "faint"),
            ("  reviewed ", "faint"),
            (f"{summary.reviewed:,}", "strong"),
            ("  relabelled ", "faint"),
            (f"{summary.relabelled:,}", "strong"),
        ]
        if self.read_only:
            mark: Piece = ("reading only ", "warn")
        elif self.session.audit.pending:
            mark = ("saving… ", "warn")
        else:
            mark = ("✓ saved ", "good")
        used = sum(len(text) for text, _ in pieces)
        pieces += [(" " * max(2, self.size.width - used - len(mark[0])), "plain"), mark]
        self.header.show([pieces])

    def paint_footer(self) -> None:
        """Paint the keys that do something now, most useful first, as many as fit."""
        actions = sorted((a for a in collapsed(self.possible()) if a.footer), key=lambda a: a.footer)
        room = self.size.width - 1
        chosen = []
        for action in actions:
            size = len(self.keymap.shown(action)) + len(action.family or action.verb) + 3
            if size <= room:
                chosen.append(action)
                room -= size
        pieces: list[Piece] = [(" ", "plain")]
        for action in chosen:
            pieces += [(self.keymap.shown(action), "key"), (f" {action.family or action.verb}  ", "plain")]
        self.footer.show([pieces])

    def say(self, text: str, style: str = "plain") -> None:
        self.status.show([[(" ", "plain"), (text, style)]])

    # -- what holds ------------------------------------------------------------

    def context(self) -> Context:
        session = self.session
        sample = session.sample
        return Context(
            pane=self.pane,
            sample=sample is not None,
            suggestions=len(session.audit.suggestions(sample)) if sample is not None else 0,
            recent=len(session.recent),
            read_only=self.read_only,
        )

    @property
    def pane(self) -> str:
        """The focused pane."""
        focused = self.focused
        return (focused.id or "") if focused is not None else "queue"

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

    def do_next_pane(self) -> None:
        self.focus_next("#classes, #queue, #preview")

    def do_previous_pane(self) -> None:
        self.focus_previous("#classes, #queue, #preview")

    def do_open(self) -> None:
        if self.pane == "classes":
            self.open_class(self.class_list.label(self.class_list.row))
            self.queue.focus()
        elif self.pane == "queue":
            self.preview.focus()

    def do_back(self) -> None:
        if self.pane == "preview":
            self.queue.focus()
        elif self.pane == "queue":
            self.class_list.focus()

    @on(Rows.Chosen)
    def _chosen(self) -> None:
        self.do_open()

    @on(Rows.Moved, "#queue")
    def _moved(self, event: Rows.Moved) -> None:
        self.session.row = event.row
        self.paint_titles()
        self.preview.show()

    def on_descendant_focus(self) -> None:
        self.paint_footer()

    def open_class(self, label: int | None) -> None:
        """Open a class's queue."""
        self.session.open_class(label)
        self.class_list.row = self.class_list.row_of(label)
        self.paint_all()

    def do_next_class(self) -> None:
        self._step_class(1)

    def do_previous_class(self) -> None:
        self._step_class(-1)

    def _step_class(self, by: int) -> None:
        row = self.class_list.row_of(self.session.spec.given) + by
        self.open_class(self.class_list.label(row % self.class_list.count()))

    # -- deciding ------------------------------------------------------------

    def decide(
        self, kind: str, label: int | None = None, second: int | None = None, note: str | None = None
    ) -> None:
        """Decide on the sample looked at, paint it, and step to the next."""
        session, audit = self.session, self.session.audit
        sample = session.sample
        if sample is None:
            return
        before = audit.decision(sample)
        old = int(audit.current[sample])
        audit.decide([sample], kind, label=label, second=second, note=note)
        glyph, style = MARKS[kind]
        old_name = audit.names[old] if old >= 0 else "no label"
        words = (
            f"{old_name} → {audit.names[label]}"
            if kind == "relabel" and label is not None
            else f"{old_name}: {kind}"
        )
        if before is None and session.left:
            session.left -= 1
        if label is not None:
            session.used(label)
        self.say(f"{glyph} {audit.sample_name(sample)}  {words}", style)
        self.queue.repaint(session.row)
        moved = session.next_open()
        self.session.load_classes()
        self.queue.go(session.row, tell=False)
        self.class_list.show()
        self.paint_titles()
        self.preview.show()
        if not moved:
            self.say(f"{glyph} {words}. This queue is finished: ] opens the next class", "good")
        self.watch_saving()

    def watch_saving(self) -> None:
        """Look at the journal until everything is written, then say so."""
        if self._saving is None and self.session.audit.pending:
            self._saving = self.set_interval(0.03, self._saved)

    def _saved(self) -> None:
        if not self.session.audit.pending:
            if self._saving is not None:
                self._saving.stop()
                self._saving = None
            self.paint_header()

    def do_suggestion(self, number: int) -> None:
        assert self.session.sample is not None
        self.decide("relabel", self.session.audit.suggestions(self.session.sample)[number - 1][0])

    def do_recent(self, number: int) -> None:
        self.decide("relabel", self.session.recent[number - 1])

    def do_keep(self) -> None:
        self.decide("keep")

    def do_exclude(self) -> None:
        self.decide("exclude")

    def do_unsure(self) -> None:
        self.decide("unsure")

    def do_skip(self) -> None:
        self.decide("skip")

    def do_find_class(self) -> None:
        from labeltui.tui.screens.finder import Finder

        def take(label: int | None) -> None:
            if label is not None:
                self.decide("relabel", label)

        self.app.push_screen(Finder("Relabel to which class?", self._class_items()), take)

    def do_ambiguous(self) -> None:
        from labeltui.tui.screens.finder import Finder, Item

        def take(label: int | None) -> None:
            if label is not None:
                self.decide("ambiguous", second=None if label < 0 else label)

        items = [Item("no second label", -1), *self._class_items()]
        self.app.push_screen(Finder("Ambiguous: which other label is right too?", items), take)

    def _class_items(self):  # type: ignore[no-untyped-def]
        from labeltui.tui.screens.finder import Item

        audit = self.session.audit
        return [
            Item(name, label, "" if name == safe(audit.class_ids[label]) else safe(audit.class_ids[label]))
            for label, name in enumerate(audit.names)
        ]

    def do_note(self) -> None:
        from labeltui.tui.screens.prompt import Prompt

        sample = self.session.sample
        assert sample is not None
        decision = self.session.audit.decision(sample)

        def take(text: str | None) -> None:
            if text is not None:
                self.session.audit.note(sample, text)
                self.say(f"note on {self.session.audit.sample_name(sample)}: {safe(text)}")
                self.paint_titles()
                self.watch_saving()

        note = decision.note if decision is not None and decision.note else ""
        self.app.push_screen(Prompt(f"Note on {self.session.audit.sample_name(sample)}", note), take)

    def do_undo(self) -> None:
        self._history("undo")

    def do_redo(self) -> None:
        self._history("redo")

    def _history(self, verb: str) -> None:
        audit = self.session.audit
        action = audit.undo() if verb == "undo" else audit.redo()
        if action is None:
            self.say(f"nothing to {verb}", "warn")
            return
        self.session.load_classes()
        self.session.visit(int(action.samples[0]))
        self.paint_all()
        self.say(f"{verb}: {action.kind} of {audit.sample_name(int(action.samples[0]))}", "link")
        self.watch_saving()

    # -- training ------------------------------------------------------------

    def do_train(self) -> None:
        self.labeltui.start_training()

    def do_cancel_training(self) -> None:
        self.labeltui.cancel_training()

    def show_job(self, job: JobState | None) -> None:
        """Paint the line of the training job; hidden while there is none."""
        active = job is not None and job.active
        self.train_line.set_class(active, "shown")
        if job is None or not active:
            return
        full, empty = bar(job.progress, 16)
        left = "" if job.eta is None else f"  {job.eta:.0f} s left"
        self.train_line.show(
            [
                [
                    (" TRAIN ", "title"),
                    (f"{job.what}  ", "strong"),
                    (full, "bar"),
                    (empty, "plain"),
                    (f"  {job.stage}{left}", "plain"),
                ]
            ]
        )

    def adopted(self, change: Change) -> None:
        """Paint after new scores came."""
        self.paint_all()
        self.say(f"re-ranked: {change.rose:,} flags rose, {change.fell:,} fell", "good")

    # -- others ------------------------------------------------------------

    def do_export(self) -> None:
        self.labeltui.export()

    def do_help(self) -> None:
        from labeltui.tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self.keymap, self.name_in_table))

    def do_palette(self) -> None:
        from labeltui.tui.screens.finder import Finder, Item

        def run(id_: str | None) -> None:
            if id_ is not None:
                self.action_do(id_)

        items = [
            Item(f"{a.group}: {a.verb}", a.id, " ".join(self.keymap.shown(a).split()))
            for a in self.possible()
            if a.id != "palette"
        ]
        self.app.push_screen(Finder("What do you want to do?", items), run)

    def do_theme(self) -> None:
        from labeltui.tui.screens.finder import Finder, Item
        from labeltui.tui.theme import THEMES

        def take(name: str | None) -> None:
            if name is not None:
                self.app.theme = name

        self.app.push_screen(Finder("Colours", [Item(theme.name, theme.name) for theme in THEMES]), take)

    def do_quit(self) -> None:
        self.app.exit()
