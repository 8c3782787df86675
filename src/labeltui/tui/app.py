"""The terminal UI: one audit, one person, one screen over another."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import events, work
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.widget import Widget
from textual.worker import Worker

from labeltui.errors import AuditError, JobError, LabeltuiError, UsageError
from labeltui.graphics import canvas_of
from labeltui.text import safe
from labeltui.tui import guide, state
from labeltui.tui.actions import Keymap
from labeltui.tui.screens.base import TableScreen, parts_of
from labeltui.tui.screens.headlines import new_scores
from labeltui.tui.screens.review import ReviewScreen
from labeltui.tui.session import Session
from labeltui.tui.theme import DARK, THEMES
from labeltui.tui.widgets.over import Item
from labeltui.tui.wire import Squeezed, Wire

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.screen import Screen

    from labeltui.audit import Audit
    from labeltui.export import Exported
    from labeltui.train.curves import Curve
    from labeltui.train.jobs import Job, JobManager

BUSY_POLL, IDLE_POLL = 0.5, 5.0
"""Seconds between two looks at a running job's files, and at the directory of jobs while none runs."""

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


class LabeltuiApp(App[None], inherit_bindings=False):
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
        self.jobs = None if audit.read_only else jobs
        self._later = None if audit.read_only else later
        self.keymap = Keymap(keys)
        self.train_after = train_after
        self.welcome = welcome
        self.session = Session(audit, self.keymap)
        self.wire = Wire()
        for known in THEMES:
            self.register_theme(known)
        if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
            self.animation_level = "none"
        remembered = state.load(audit.uuid)
        self.returning = state.restore(self.session, remembered)
        if theme == DARK.name:
            theme = state.theme() or theme
        self._begin_with(theme if theme in self.available_themes else DARK.name)
        self.review = ReviewScreen(self.session, self.keymap)
        self._brought = asyncio.Event()  # the trainer is there
        self._starting = False
        self._place: object = None  # as last remembered
        self._early: list[events.Key | events.Paste] | None = []  # typed before the first screen stood
        self._settled: Screen[Any] | None = None  # the screen that got the last key
        self._pressed: Widget | None = None  # where the mouse button went down
        self._asked_at = 0  # relabels since the last run when a job was last started by itself

    def get_default_screen(self) -> ReviewScreen:
        return self.review

    def on_mount(self) -> None:
        self.call_after_refresh(self._first_screen)
        self.app_resume_signal.subscribe(self, lambda app: self.redraw())  # after SIGTSTP and SIGCONT
        self.set_interval(PLACE_EVERY, self._keep_place)
        if self.jobs is not None:
            self._watch_jobs()

    def _begin_with(self, theme: str) -> None:
        """Take a theme before anything is painted: set as usual, all styles would be worked out twice at the start."""
        self.set_reactive(App.theme, theme)
        dark = self.current_theme.dark
        names = [name for name in self.classes if name.startswith("-theme-")]
        classes = {**dict.fromkeys(names, False), f"-theme-{theme}": True}
        self.update_classes({**classes, "-dark-mode": dark, "-light-mode": not dark}, update=False)
        self._refresh_truecolor_filter(self.ansi_theme)
        self.stylesheet.set_variables(self.get_css_variables())

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
        if self._later is not None:
            self._bring_jobs(self._later)
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
        return self.size.width < SMALLEST[0] or self.size.height < SMALLEST[1]

    def on_resize(self, event: events.Resize) -> None:
        if self.too_small:
            self.top.say(f"too small: {SMALLEST[0]}x{SMALLEST[1]} at least", "bad")

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        # All of Textual's frames pass here; what the terminal shows already is taken out of them.
        if not isinstance(renderable, CompositorUpdate):
            super()._display(screen, renderable)
            return
        if (self.wire.width, self.wire.height) != self.size:
            self.wire.forget(*self.size)
        super()._display(screen, Squeezed(self.wire, renderable))
        canvas = canvas_of(self)
        if canvas.caps.kind == "sixel":
            self.wire.doubt(image.region for image in canvas.images)

    def redraw(self) -> None:
        """Paint everything anew: something else may have written on the terminal."""
        self.wire.forget(*self.size)
        canvas_of(self).redraw()
        self.refresh(layout=True)

    # Training ---------------------------------------------------------------------------

    @property
    def trains(self) -> bool:
        """Whether there is a trainer, or will be in a moment."""
        return self.jobs is not None or self._later is not None

    @property
    def training(self) -> bool:
        """Whether a job runs, as last seen, or is being started."""
        job = self.jobs.status() if self.jobs is not None else None
        return self._starting or (job is not None and job.active)

    @work(group="bring", exclusive=True, exit_on_error=False)
    async def _bring_jobs(self, make: Callable[[], JobManager]) -> None:
        try:
            self.jobs = await asyncio.to_thread(make)
        except BaseException:
            self._later = None  # nothing can be trained; review goes on
            raise
        finally:
            self._brought.set()
        self._watch_jobs()
        self._train_when_due()  # somebody may have been quicker

    @work(group="jobs", exclusive=True, exit_on_error=False)
    async def _watch_jobs(self) -> None:
        jobs = self.jobs
        assert jobs is not None
        # What finished while nobody looked is adopted first.
        await self._adopt()
        before: Job | None = None
        while True:
            try:
                job, ended, curve = await asyncio.to_thread(_look, jobs, before)
            except (
                Exception
            ) as error:  # a network file system that does not answer, a file that is being replaced
                self.top.complain(error)
                await asyncio.sleep(IDLE_POLL)
                continue
            self.review.show_job(job, curve)
            if ended is not None and ended.state == "done":
                await self._adopt()
            elif ended is not None:
                self._say_ended(ended)
            elif before is None and job is not None and job.state in ("lost", "paused"):
                self._say_ended(job)
            before = job
            await asyncio.sleep(BUSY_POLL if job is not None and job.active else IDLE_POLL)

    def _say_ended(self, job: Job) -> None:
        why = f": {job.message}" if job.message else ""
        key = self.keymap.hint("runs")
        self.top.say(f"run {job.number} {job.state}{why}; {key} shows it and can resume it", "warn")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        self.top.on_worker_state_changed(event)

    @property
    def top(self) -> TableScreen[Any]:
        """The screen that a person looks at."""
        return self.screen if isinstance(self.screen, TableScreen) else self.review

    async def _adopt(self) -> None:
        """Show the results of finished runs; the copying is done off the UI thread."""
        try:
            ready = await asyncio.to_thread(self.audit.prepare)
            change = self.session.refresh() if ready else None
        except (LabeltuiError, OSError) as error:
            self.top.complain(error)
            return
        if change is None:
            return
        self.audit.warm()
        self.review.adopted(change)
        if self.top is not self.review:
            self.top.paint_all()
            self.top.say(new_scores(change), "good")

    async def _trainer(self) -> JobManager:
        if self.jobs is None:
            await self._brought.wait()
        if self.jobs is None:
            raise JobError(
                "training must be loaded before a run starts", "loading it failed", "see labeltui doctor"
            )
        return self.jobs

    def start_training(self, why: str = "") -> None:
        """Start fine-tuning in the background, once the trainer is there; `why`, if nobody asked for it."""
        if self.training:
            return
        if self.jobs is None:
            self.top.say("training is being loaded; it starts in a moment")
        self._starting = True
        self._start_aside(why)

    @work(group="start", exit_on_error=False)
    async def _start_aside(self, why: str) -> None:
        try:
            jobs = await self._trainer()
            job = await asyncio.to_thread(jobs.start)
        except (LabeltuiError, OSError) as error:
            self.top.say(f"training did not start: {'. '.join(parts_of(error))}", "bad")
            return
        finally:
            self._starting = False
        if self.audit.summary().flags:
            words = "keep reviewing, the queue is re-ranked when it ends"
        else:
            words = f"every flag is reviewed: {self.keymap.hint('export')} exports, or wait for what it finds"
        self.top.say(f"run {job.number} started {why}".rstrip() + f"; {words}")
        if job.warning:
            self.top.say(job.warning, "warn")
        self.review.show_job(job)
        self._watch_jobs()

    @work(group="csg", exclusive=True, exit_on_error=False)
    async def _solve(self) -> None:
        await asyncio.sleep(SOLVE_AFTER)  # the next decision within it starts anew
        await asyncio.to_thread(self.audit.solve_csg)
        self.review.paint_header()

    async def resume_training(self, run_id: str) -> Job:
        """Go on with a run."""
        jobs = await self._trainer()
        job = await asyncio.to_thread(jobs.resume, run_id)
        self.review.show_job(job)
        self._watch_jobs()
        return job

    @work(group="cancel", exit_on_error=False)
    async def cancel_training(self, run_id: str = "", what: str = "training") -> None:
        """Request that a run stop, by default the active one.

        Parameters
        ----------
        run_id : str
            Empty = the active run.
        what : str
            Its name in the message.
        """
        jobs = await self._trainer()
        await asyncio.to_thread(jobs.cancel, run_id)
        self.top.say(f"{what} is asked to stop")

    def decided(self, bulk: bool = False) -> None:
        """Follow a decision: solve for CSG where that takes long, train when enough was relabelled.

        Training does not start right behind a `bulk` decision, which may still be undone, but at the next decision.
        """
        if self.audit.summary().csg_stale:
            self._solve()
        if not bulk:
            self._train_when_due()

    def _train_when_due(self) -> None:
        if self.jobs is None or not self.train_after or self.training:
            return
        relabels = self.audit.relabels_since_run
        if relabels < self._asked_at:  # a run took them in
            self._asked_at = 0
        if relabels - self._asked_at >= self.train_after:
            self._asked_at = relabels
            self.start_training(f"after {relabels:,} relabels")

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

    async def _on_exit_app(self) -> None:
        self.remember()
        await super()._on_exit_app()

    def farewell(self) -> list[str]:
        """Return what to print after the screen is gone."""
        summary = self.audit.summary()
        path = shlex.quote(safe(str(self.audit.path)))
        lines = [
            f"{summary.reviewed:,} samples reviewed, {summary.relabelled:,} relabelled, {summary.flags:,} flags left"
        ]
        if summary.reviewed:
            lines.append(f"corrected labels as CSV:  labeltui export {path} -o labels.csv")
        if self.training:
            lines.append(f"training continues:       labeltui jobs {path}")
        return lines


def _look(jobs: JobManager, before: Job | None) -> tuple[Job | None, Job | None, Curve | None]:
    """The job that works (else the newest), the one seen before if it has ended since, and how the first learns."""
    from labeltui.train import curves
    from labeltui.train.jobs import read

    job = jobs.poll()
    ended = None
    if before is not None and before.active:
        if job is not None and job.id == before.id:
            now: Job | None = job
        else:  # a run whose process could not be launched is taken away again
            now = read(before.directory) if before.directory.is_dir() else None
        ended = None if now is None or now.active else now
    return job, ended, curves.read(job.directory) if job is not None and job.active else None


def run(
    audit_path: Path,
    *,
    reviewer: str | None = None,
    graphics: str = "auto",
    source: Path | None = None,
    max_kbps: int | None = None,
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
    source : Path, optional
        Where the data lies now, if it was moved since the scan.
    max_kbps : int, optional
        Speed of the line; images get smaller to fit it.
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
        caps = detect(graphics)

        def jobs() -> JobManager:
            from labeltui.train.jobs import JobManager

            return JobManager(audit, launcher=launcher)

        app = LabeltuiApp(
            audit, later=jobs, keys=keys, theme=theme, train_after=train_after, welcome=state.first_time()
        )
        attach(app, caps, max_kbps or None)
        sys.setswitchinterval(TURN)
        app.run()
        if app.return_code:
            raise SystemExit(app.return_code)
        return app.farewell()
