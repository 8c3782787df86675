"""The terminal UI: one audit, one person, one screen over another."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import events, work
from textual.geometry import Size
from textual.widget import Widget
from textual.worker import Worker

from labeltui.errors import AuditError, LabeltuiError, UsageError
from labeltui.frames import FrameApp
from labeltui.graphics import canvas_of
from labeltui.text import safe
from labeltui.tui import guide, state
from labeltui.tui.actions import Keymap
from labeltui.tui.host import JobChanged, Notice, ScoresChanged
from labeltui.tui.screens.base import TableScreen
from labeltui.tui.screens.headlines import new_scores
from labeltui.tui.screens.review import ReviewScreen
from labeltui.tui.session import Session
from labeltui.tui.theme import DARK, THEMES
from labeltui.tui.training import Training
from labeltui.tui.widgets.over import Item

if TYPE_CHECKING:
    from textual.geometry import Region
    from textual.screen import Screen

    from labeltui.audit import Audit
    from labeltui.export import Exported
    from labeltui.train.jobs import JobManager

PLACE_EVERY = 2.0
"""Seconds between two looks at the place in the queue; a new one is remembered, for the terminal may be lost."""

TURN = 0.001
"""Seconds that another thread may keep the interpreter while a key waits; Python's own 5 ms add up over a frame."""

SAVE_WAIT = 10.0
"""Seconds that leaving and exporting wait for a slow disk."""

SMALLEST = 60, 15
"""Columns and rows below which too little is shown to decide on."""

SOLVE_AFTER = 0.4
"""Seconds after a decision at which CSG of many classes is worked out."""


class LabeltuiApp(FrameApp, inherit_bindings=False):
    """The application; audit and jobs stay its caller's.

    Parameters
    ----------
    audit : Audit
        Open; decisions go to it.
    jobs : JobManager, optional
        Training jobs; without it nothing can be trained.
    keys : mapping of str to sequence of str, optional
        Keys by action id, as in the settings file.
    theme : str
        Name of a theme.
    train_after : int
        Relabels that start a training job by themselves; 0 = only by key.
    welcome : bool
        Greet somebody who is new.
    later : callable, optional
        Makes `jobs`, called on a thread once the first screen stands: what trains takes a while to import.
    """

    CSS_PATH = "labeltui.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "labeltui"

    def __init__(
        self,
        audit: Audit,
        *,
        jobs: JobManager | None = None,
        keys: Mapping[str, Sequence[str]] | None = None,
        theme: str = DARK.name,
        train_after: int = 20,
        welcome: bool = False,
        later: Callable[[], JobManager] | None = None,
    ) -> None:
        super().__init__()
        self.audit = audit
        self.keymap = Keymap(keys)
        self.welcome = welcome
        self.session = Session(audit, self.keymap)
        self.training = Training(self, self.session, jobs, later, train_after)
        for known in THEMES:
            self.register_theme(known)
        if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
            self.animation_level = "none"
        remembered = state.load(audit.uuid)
        self.returning = state.restore(self.session, remembered)
        if theme == DARK.name:
            theme = state.choice("theme") or theme
        self.begin_with_theme(theme if theme in self.available_themes else DARK.name)
        self.review = ReviewScreen(self.session, self.keymap)
        self._place: object = None  # as last remembered
        self._early: list[events.Key | events.Paste] | None = []  # typed before the first screen stood
        self._was_too_small = False
        self._settled: Screen[Any] | None = None  # the screen that got the last key
        self._pressed: Widget | None = None  # where the mouse button went down

    def get_default_screen(self) -> ReviewScreen:
        return self.review

    def on_mount(self) -> None:
        self.call_after_refresh(self._first_screen)
        self.app_resume_signal.subscribe(self, lambda app: self.redraw())  # after SIGTSTP and SIGCONT
        self.set_interval(PLACE_EVERY, self._keep_place)

    async def _first_screen(self) -> None:
        """Do what can wait until the first screen stands."""
        if not self.is_headless:
            # What was made so far lives as long as the program: looking through it for garbage again and again costs
            # pauses of 50 ms. Of what comes later little is looked at a time: 3,000 objects take 1 ms.
            # Strips that Textual has cut hold themselves; looked for too seldom they pile up by 4 MB a thousand keys.
            gc.freeze()
            gc.set_threshold(3_000, 5, 20)
            gc.enable()
            for cut in (
                signal.SIGHUP,
                signal.SIGTERM,
            ):  # a line that breaks must not lose the place in the queue
                asyncio.get_running_loop().add_signal_handler(cut, self.exit)
        self.audit.warm()
        self.training.bring()
        await self.review.bring_panels()
        self.call_after_refresh(self._greet)

    async def _greet(self) -> None:
        review, root = self.review, self.audit.images.root
        if root is not None and not root.exists():
            review.reader.read("No images", guide.missing_images(self.audit, self.keymap, review.reader.room))
        elif self.welcome:
            review.reader.read("Welcome", guide.welcome(self.audit, self.keymap, review.reader.room))
        self.run_worker(self._tell_changes(), group="changes", exit_on_error=False)
        # Here the screen's messages wait; keys that open another screen need them.
        self.call_later(self._type_early)

    async def _tell_changes(self) -> None:
        """Say that files were edited after the scan; looking may take long on a network file system."""
        if changed := await asyncio.to_thread(self.audit.images.changed_files):
            names = ", ".join(changed)
            self.top.say(f"changed since the scan: {names}; the labels here are those of the scan", "warn")

    async def _type_early(self) -> None:
        early, self._early = self._early or [], None
        for event in early:
            await self._typed(event)

    # Keys -------------------------------------------------------------------------------

    async def on_event(self, event: events.Event) -> None:
        """Handle keys and clicks here, one after the other; Textual handles all other events.

        Textual would put each key into the message queue of the screen that is on top when the key *arrives*, and let
        messages follow it. Keys that arrive together (a stalled line, held keys) would then act before the one in
        front of them has taken effect, and decide on another sample than the one it leads to. Here a key is looked up
        when the one before it is done, on the screen that is on top then.
        """
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            if self._early is not None:
                self._early.append(event)
            else:
                await self._typed(event)
            return
        if isinstance(event, events.MouseEvent) and not event.is_forwarded:
            if self._early is None and not self.too_small:
                await self._moused(event)
            return
        if isinstance(event, events.Resize) and not self.is_headless:
            # Textual reads the size in a signal handler, which the next signal may interrupt before it has sent the
            # event: the older size would come last and stay.
            size = Size(*shutil.get_terminal_size())
            event = events.Resize(size, size)
        await super().on_event(event)

    async def _typed(self, event: events.Key | events.Paste) -> None:
        if self.too_small:
            if isinstance(event, events.Key) and event.key in self.keymap.keys("quit"):
                self.leave()
            return
        await (await self._painted()).typed(event)

    async def _moused(self, event: events.MouseEvent) -> None:
        screen = await self._painted()
        if isinstance(event, events.MouseDown | events.MouseScrollDown | events.MouseScrollUp):
            await screen.settle()
        widget = self.get_widget_at(event.x, event.y)[0]
        if isinstance(event, events.MouseScrollDown | events.MouseScrollUp):
            screen.wheel(widget, 1 if isinstance(event, events.MouseScrollDown) else -1)
            return
        await super().on_event(event)
        if isinstance(event, events.MouseDown):
            self._pressed = widget
        elif isinstance(event, events.MouseUp):
            pressed, self._pressed = self._pressed, None
            if pressed is widget:
                await screen.clicked(widget, event.y)

    async def _painted(self) -> TableScreen[Any]:
        """Return the screen on top once it is painted: a person decides on what is shown."""
        while True:
            screen = self.screen
            assert isinstance(screen, TableScreen)
            await screen.on_top.wait()
            if screen is self._settled:
                return screen
            await screen.settle()
            self._settled = screen

    def push_screen(self, screen: Any, *arguments: Any, **options: Any) -> Any:
        """Put a screen on top; the one below it has to be painted anew before it gets keys again."""
        covered = self.screen if self.screen_stack else None
        pushed = super().push_screen(screen, *arguments, **options)
        if isinstance(covered, TableScreen):
            covered.on_top.clear()
        self._settled = None
        return pushed

    @property
    def too_small(self) -> bool:
        """Whether the terminal shows too little to decide on."""
        return too_small(self.size)

    def on_resize(self, event: events.Resize) -> None:
        # `size` is still the one before.
        was, self._was_too_small = self._was_too_small, too_small(event.size)
        if self._was_too_small:
            self.top.say(f"too small: {SMALLEST[0]}x{SMALLEST[1]} at least", "bad")
        elif was:
            self.top.say("")

    def pixel_regions(self) -> Iterable[Region]:
        canvas = canvas_of(self)
        return (image.region for image in canvas.images) if canvas.caps.kind == "sixel" else ()

    def redraw(self) -> None:
        """Paint everything anew: something else may have written on the terminal."""
        self.forget_frames()
        canvas_of(self).redraw()
        self.refresh(layout=True)

    # What the screens and the training ask for --------------------------------------------

    @property
    def top(self) -> TableScreen[Any]:
        """The screen that a person looks at."""
        return self.screen if isinstance(self.screen, TableScreen) else self.review

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        self.top.on_worker_state_changed(event)

    def on_notice(self, notice: Notice) -> None:
        if isinstance(notice.what, str):
            self._tell(notice.what, notice.style)
        else:
            self.top.complain(notice.what)

    def on_job_changed(self, message: JobChanged) -> None:
        self.review.show_job(message.job, message.curve)

    def on_scores_changed(self, message: ScoresChanged) -> None:
        self.review.paint_all()
        if self.top is not self.review:
            self.top.paint_all()
        self._tell(new_scores(message.change), "good")

    def _tell(self, text: str, style: str) -> None:
        """Say it on the screen looked at and on the first one: the screens above it are closed with what they said."""
        self.top.say(text, style)
        if self.top is not self.review:
            self.review.say(text, style)

    def show_queue(self, given: int | None = None) -> None:
        """Have the next key go to the first screen's queue; `given`, if it holds that class only."""
        if given is not None:
            self.review.class_list.put(given)
        self.review.enter_pane("queue")

    def say_below(self, text: str, style: str) -> None:
        """Show feedback on the first screen, which is on top once the screens above it are closed."""
        self.review.say(text, style)

    def decided(self, bulk: bool = False) -> None:
        """Follow a decision: solve for CSG where that takes long, train when enough was relabelled.

        Training does not start right behind a `bulk` decision, which may still be undone, but at the next decision.
        """
        if self.audit.summary().csg_stale:
            self._solve()
        if not bulk:
            self.training.start_when_due()

    @work(group="csg", exclusive=True, exit_on_error=False)
    async def _solve(self) -> None:
        await asyncio.sleep(SOLVE_AFTER)  # the next decision within it starts anew
        await asyncio.to_thread(self.audit.solve_csg)
        self.review.paint_header()

    # Export -----------------------------------------------------------------------------

    @work(group="export", exit_on_error=False)
    async def export(self, out: Path, only_changed: bool, force: bool) -> None:
        """Export the corrected labels, off the UI thread, and report the outcome.

        Parameters
        ----------
        out : Path
        only_changed : bool
        force : bool
            See `labeltui.export.export`.
        """
        self.top.say(f"writing {safe(str(out))} …")
        try:
            done = await asyncio.to_thread(self._export, out, only_changed, force)
        except (LabeltuiError, OSError) as error:
            self.top.complain(error)
            return
        counts = f"{done.rows:,} rows, {done.corrected:,} corrected, {done.excluded:,} excluded"
        self.top.say(f"✓ wrote {safe(str(out))}: {counts}", "good")

    def _export(self, out: Path, only_changed: bool, force: bool) -> Exported:
        from labeltui.audit import Audit
        from labeltui.export import export

        # A second look at the audit: decisions made while the file is written do not disturb it.
        if not self.audit.flush(SAVE_WAIT):
            failed = self.audit.failed
            raise AuditError(
                "an export holds every decision",
                f"{self.audit.pending:,} are not saved yet" + (f": {failed.got}" if failed else ""),
                "free some space or mend the disk; q can write the unsaved ones to another file",
            )
        with Audit.open(self.audit.path, read_only=True, source_root=self.audit.images.root) as snapshot:
            return export(snapshot, out, only_changed=only_changed, force=force)

    # Leaving

    @work(group="leave", exclusive=True, exit_on_error=False)
    async def leave(self) -> None:
        """End the program; ask first where decisions cannot be saved."""
        if not self.audit.pending or await asyncio.to_thread(self.audit.flush, SAVE_WAIT):
            self.exit()
            return
        count = self.audit.pending
        failed = self.audit.failed
        why = f": {failed.got}" if failed else ""
        items = [
            Item("stay; saving is tried again all the time", "stay"),
            Item("write them to another file, then leave", "write"),
            Item("leave without them", "leave"),
        ]
        self.top.panel.find(f"{count:,} decisions are NOT SAVED", items, self._leave_so)
        self.top.say(f"{count:,} decisions are not saved{why}", "bad")

    def _leave_so(self, choice: str) -> None:
        if choice == "write":
            name = self.audit.path.name.removesuffix(".audit") + ".unsaved.jsonl"
            self.top.panel.ask(
                "Write the unsaved decisions to which file?", self._write_unsaved, str(Path.home() / name)
            )
        elif choice == "leave":
            self.exit()

    def _write_unsaved(self, path: str) -> None:
        try:
            self.audit.write_unsaved(Path(path).expanduser())
        except LabeltuiError as error:
            self.top.complain(error)
        else:
            self.exit()

    # Place

    def remember(self) -> None:
        """Write down the place in the queue."""
        state.save(self.session)

    def _keep_place(self) -> None:
        place = self.session.sample, self.session.spec
        if place != self._place:
            self._place = place
            self.remember()

    def exit(self, *arguments: Any, **options: Any) -> None:
        """End the program; the next one begins where this one was."""
        self.remember()
        super().exit(*arguments, **options)

    def farewell(self) -> list[str]:
        """Return what to print after the screen is gone."""
        summary = self.audit.summary()
        path = shlex.quote(safe(str(self.audit.path)))
        lines = [
            f"{summary.reviewed:,} samples reviewed, {summary.relabelled:,} relabelled, {summary.flags:,} flags left"
        ]
        if summary.reviewed:
            lines.append(f"corrected labels as CSV:  labeltui export {path} -o labels.csv")
        if self.training.active:
            lines.append(f"training continues:       labeltui jobs {path}")
        return lines


def too_small(size: Size) -> bool:
    """Whether a terminal of this size shows too little to decide on."""
    return size.width < SMALLEST[0] or size.height < SMALLEST[1]


def run(
    audit_path: Path,
    *,
    reviewer: str | None = None,
    graphics: str = "auto",
    tmux_layers: int = -1,
    source: Path | None = None,
    max_kbps: int | None = None,
    scaling: str = "pixels",
    read_only: bool = False,
    keys: Mapping[str, Sequence[str]] | None = None,
    theme: str = DARK.name,
    train_after: int = 20,
    launcher: str = "",
) -> list[str]:
    """Open the terminal UI on an audit and return when the person leaves it.

    Parameters
    ----------
    audit_path : Path
        The audit directory.
    reviewer : str, optional
        Name put on decisions; by default the login name.
    graphics : str
        ``auto`` asks the terminal; else kitty, sixel, blocks or ascii.
    tmux_layers : int
        tmux servers that pass images on; -1 asks them.
    source : Path, optional
        Where the data lies now, if it was moved since the scan.
    max_kbps : int, optional
        Speed of the line; images get smaller to fit it.
    scaling : str
        ``smooth`` enlarges small images smoothly, ``pixels`` shows each of their pixels as a square, unless the user
        chose otherwise on the screen.
    read_only : bool
        Look only.
    keys, theme, train_after, launcher
        From the settings: keys by action id, name of the theme, relabels that start training (0 = never), words
        put before the training process's command line.

    Returns
    -------
    list of str
        Lines to print once the terminal is back: what was done, and what to do next.

    Raises
    ------
    LabeltuiError
        The audit cannot be opened, or `source` is no directory.
    """
    from labeltui.audit import Audit
    from labeltui.graphics import attach
    from labeltui.graphics.probe import detect

    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise UsageError(
            "the review needs a terminal that can move its cursor",
            f"TERM is {safe(os.environ.get('TERM', '')) or 'not set'}",
            "use another terminal; status, explain and export need none",
        )
    if source is not None and not source.is_dir():
        raise UsageError(
            "--source names the directory that was scanned, where it lies now",
            f"{safe(str(source))} is no directory",
            "leave it out to decide without images",
        )
    with Audit.open(audit_path, reviewer=reviewer, read_only=read_only, source_root=source) as audit:
        caps = detect(graphics, layers=tmux_layers)

        def jobs() -> JobManager:
            from labeltui.train.jobs import JobManager

            return JobManager(audit, launcher=launcher)

        app = LabeltuiApp(
            audit, later=jobs, keys=keys, theme=theme, train_after=train_after, welcome=state.first_time()
        )
        attach(app, caps, max_kbps or None, (state.choice("scaling") or scaling) == "smooth")
        sys.setswitchinterval(TURN)
        app.run()
        if app.return_code:
            raise SystemExit(app.return_code)
        return app.farewell()
