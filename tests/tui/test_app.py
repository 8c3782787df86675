"""How the review screen behaves over a session."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from labeltui.audit import Audit, Change
from labeltui.embed import EmbedSpec
from labeltui.head import HeadSpec
from labeltui.scanning import ScanOptions, scan
from labeltui.train.jobs import JobManager, follow, list_jobs
from labeltui.train.plan import Request
from labeltui.tui.app import LabeltuiApp
from labeltui.tui.session import RECENT, Session
from tests.factories import HEAD, make_audit
from tests.tui.desk import Desk, at_desk

STRANGE = ("[red]x", "esc\x1b[31m", "two\nlines", "漢字")


async def test_the_screen_shows_audit_classes_queue_preview_and_keys(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        lines = desk.screen
        assert "small.audit" in lines[0]
        assert "120 samples" in lines[0]
        assert "CSG" in lines[0]
        assert "✓ saved" in lines[0]
        assert lines[1].split("│")[0].split() == ["CLASSES", "by", "overlap"]
        flags = desk.audit.summary().flags
        assert f"QUEUE all classes  {flags:,} flagged" in lines[1]
        first = desk.session.classes[0]
        assert lines[2].split("│")[0].split() == ["class", "overlap", "W", "flags"]
        assert lines[2].split("│")[1].split() == ["file", "score", "given", "→", "suggested"]
        assert lines[4].split()[:2] == [first.name, f"{first.overlap:.2f}"]
        names = [desk.audit.sample_name(int(sample)).split("/")[1][:-4] for sample in desk.session.queue]
        shown = [
            line[33:].split()[0].strip("▌") or line[34:].split()[0] for line in lines[3 : 3 + len(names)]
        ]
        assert shown == names
        assert any("nearest neighbours are" in line for line in lines)
        assert "[1-5] suggested" in lines[-1]
        assert "[space] keep" in lines[-1]


async def test_a_decision_is_painted_at_once_and_saved_soon(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        before = desk.audit.summary()
        await desk.do("suggestion-1")
        assert "reviewed 1" in desk.screen[0]
        assert "relabelled 1" in desk.screen[0]
        await desk.until(lambda: "✓ saved" in desk.screen[0])
        assert desk.audit.summary().saved
        assert desk.audit.summary().csg != before.csg
        with Audit.open(desk.audit.path, read_only=True) as other:
            assert other.summary().relabelled == 1


async def test_saving_that_fails_is_said_loudly_and_tried_again(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        async with at_desk(make_audit(tmp_path, n=120)) as desk:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # to this process a full disk
            await desk.do("keep")
            await desk.until(lambda: "NOT SAVED" in desk.screen[0])
            assert "not saved:" in desk.status
            await desk.do("keep")
            assert desk.audit.summary().reviewed == 2  # work goes on
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            await desk.until(lambda: "✓ saved" in desk.screen[0])
            assert "not saved" not in desk.status
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


async def test_the_sample_never_jumps_when_classes_change_their_order(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=240)) as desk:
        orders = set()
        for _ in range(12):
            row = desk.session.row
            queue = desk.session.queue.copy()
            await desk.do("suggestion-1")
            orders.add(tuple(entry.index for entry in desk.session.classes))
            assert np.array_equal(desk.session.queue, queue)
            assert desk.session.row == row + 1
            assert desk.review.queue.row == desk.session.row
        overlaps = [entry.overlap for entry in desk.session.classes]
        assert overlaps == sorted(overlaps, reverse=True)
        shown = [line.split()[0] for line in desk.screen[4:8]]
        assert shown == [entry.name for entry in desk.session.classes]


async def test_the_class_cursor_stays_with_its_class(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=240)) as desk:
        await desk.do("next-class")
        label = desk.session.spec.given
        for _ in range(6):
            await desk.do("suggestion-1")
            assert desk.review.class_list.label(desk.review.class_list.row) == label
            assert any("▸" in line and desk.audit.names[label or 0] in line for line in desk.screen[4:9])


async def test_a_finished_queue_says_what_to_do_next(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        await desk.do("next-class")
        for _ in range(len(desk.session.queue)):
            await desk.do("keep")
        assert desk.session.left == 0
        assert "queue is finished" in desk.status
        await desk.do("next-class")
        assert desk.session.left > 0


async def test_undo_reaches_across_sessions_and_classes(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)
    async with at_desk(path) as desk:
        sample = desk.sample
        await desk.do("suggestion-1")
    async with at_desk(path) as desk:
        assert desk.audit.summary().relabelled == 1
        other = next(row.index for row in desk.session.classes if row.index != desk.audit.given[sample])
        desk.review.open_class(other)
        await desk.do("undo")
        assert desk.audit.summary().relabelled == 0
        assert desk.sample == sample
        assert desk.session.spec.given == desk.audit.given[sample]


async def test_new_scores_rerank_around_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_desk(make_audit(tmp_path, n=240)) as desk:
        await desk.do("down", "down", "down")
        sample = desk.sample
        queue = desk.session.queue.copy()
        shuffled = queue[queue != sample][::-1]
        monkeypatch.setattr(desk.audit, "refresh", lambda: Change(3, 5, 1, "run"))
        monkeypatch.setattr(desk.audit, "queue", lambda spec: shuffled)
        change = desk.session.refresh()
        assert change is not None
        desk.review.adopted(change)
        await desk.pilot.pause()
        assert desk.sample == sample  # no longer flagged, and still looked at
        assert len(desk.session.queue) == len(shuffled) + 1
        assert "3 new flags, 5 cleared" in desk.status
        await desk.do("keep")
        assert desk.audit.decision(sample) is not None


async def test_training_starts_by_itself_and_ends_in_new_scores(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=240)
    async with at_desk(path, trains=True, train_after=3) as desk:
        await desk.do("suggestion-1", "keep", "suggestion-1", "keep")
        assert list_jobs(path) == []
        await desk.do("suggestion-1")
        await desk.until(lambda: len(list_jobs(path)) == 1)
        await desk.do("suggestion-1")
        sample = desk.sample
        await desk.until(lambda: desk.audit.generation == 1, 90)
        await desk.until(lambda: "the queue is re-ranked" in desk.status)
        assert desk.sample == sample
        assert desk.audit.relabels_after(desk.audit.newest_run_seq()) == 1
        assert len(list_jobs(path)) == 1


async def test_a_run_that_ended_between_two_looks_is_adopted_and_said_on_the_first_screen_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_audit(tmp_path, n=240)
    twin = Path(shutil.copytree(path, tmp_path / "twin.audit"))
    with Audit.open(twin, reviewer="ada") as audit:
        run = JobManager(audit, request=Request(head=HEAD)).start()
        assert [job.state for job in follow(run)][-1] == "done"
    monkeypatch.setattr("labeltui.tui.training.IDLE_POLL", 0.05)
    async with at_desk(path, trains=True) as desk:
        await desk.do("runs")
        await desk.until(lambda: "TRAINING RUNS" in desk.text)
        run.directory.rename(tmp_path / "run")  # whole, as a run looks that nobody saw at work
        (path / "runs").mkdir(exist_ok=True)
        (tmp_path / "run").rename(path / "runs" / run.id)
        await desk.until(lambda: desk.status.startswith("new scores:"))
        assert desk.audit.generation == 1
        await desk.do("back")
        assert desk.app.screen is desk.review
        assert desk.status.startswith("new scores:")


async def test_names_from_data_are_never_markup_or_escapes(tmp_path: Path) -> None:
    made = make_audit(tmp_path, n=120)
    data = made.parent / "data"
    for number, name in enumerate(STRANGE):
        (data / f"class{number}").rename(data / name)
    first = sorted((data / STRANGE[0]).iterdir())[0]
    first.rename(first.with_name("[b]bold[i].png"))
    head = HeadSpec(hidden=32, components=32, epochs=2, least_steps=10)
    audit = tmp_path / "strange.audit"
    scan(data, audit, ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=head))
    async with at_desk(audit) as desk:
        assert "[red]x" in desk.text
        assert "esc\\x1b" in desk.text
        assert "\x1b" not in desk.text
        assert all(cell_len(line) == 120 for line in desk.screen)
        await desk.do("class")
        text = desk.text
        assert "[red]x" in text
        assert "esc\\x1b[31m" in text
        assert "two\\x0alines" in text
        assert "漢字" in text
        await desk.press("escape")
        desk.session.visit(next(i for i in range(desk.audit.n) if "[b]" in desk.audit.sample_name(i)))
        desk.review.paint_all()
        await desk.pilot.pause()
        assert "[b]bold[i]" in desk.text
        await desk.do("keep")
        assert "[b]bold[i].png" in desk.status


async def test_a_lost_image_leaves_a_message_and_the_keys(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)
    with Audit.open(path) as audit:
        first = audit.sample_name(int(audit.queue()[0]))
    (tmp_path / "data" / first).unlink()
    async with at_desk(path) as desk:
        await desk.until(lambda: "no such file" in desk.text)
        sample = desk.sample
        await desk.do("keep")
        assert desk.audit.decision(sample) is not None


async def test_reading_only_refuses_decisions_and_says_so(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120), read_only=True) as desk:
        sample = desk.sample
        assert "read-only" in desk.screen[0]
        await desk.do("keep")
        assert desk.audit.decision(sample) is None
        assert "reading only" in desk.status
        assert "keep" not in desk.screen[-1]
        await desk.do("down")
        assert desk.sample != sample


async def test_keys_can_be_moved_and_clashes_are_announced(tmp_path: Path) -> None:
    keys = {"keep": ["y"], "unsure": ["y"]}
    async with at_desk(make_audit(tmp_path, n=120), keys=keys) as desk:
        assert "y is wished for keep and unsure" in desk.status
        assert "unsure" not in desk.screen[-1]  # no key without a key
        assert "[y] keep" in desk.screen[-1]
        sample = desk.sample
        await desk.press("space")
        assert desk.audit.decision(sample) is None
        await desk.press("y")
        decision = desk.audit.decision(sample)
        assert decision is not None
        assert decision.kind == "keep"


@pytest.mark.parametrize("size", [(80, 24), (81, 31), (104, 30), (120, 40), (200, 60), (300, 100)])
async def test_every_size_shows_what_matters(size: tuple[int, int], tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120), size=size) as desk:
        text = desk.text
        assert all(cell_len(line) == size[0] for line in desk.screen)
        for word in ("labeltui", "CSG", "saved", "CLASSES", "QUEUE", "near", "detector", "suggested", "keep"):
            assert word in text, word
        assert desk.review.preview.image.size.height >= 6
        assert desk.review.queue.size.height == size[1] - 4
        assert desk.audit.names[desk.audit.suggestions(desk.sample)[0][0]] in text


async def test_the_window_may_change_its_size_at_any_time(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=240)) as desk:
        await desk.do("down", "down", "down")
        sample = desk.sample
        for size in ((80, 24), (40, 10), (20, 5), (300, 100), (120, 40)):
            await desk.pilot.resize_terminal(*size)
            await desk.pilot.pause()
            assert desk.sample == sample
        assert "PREVIEW" in desk.screen[1]


async def test_a_mouse_works_and_is_not_needed(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        await desk.click(5, 4, "#queue")
        assert desk.session.row == 3
        await desk.click(5, 3, "#classes")
        assert desk.review.pane == "classes"
        await desk.click(5, 3, "#classes")
        assert desk.session.spec.given == desk.session.classes[1].index


def test_digits_of_classes_used_last_are_stable(tmp_path: Path) -> None:
    with Audit.open(make_audit(tmp_path, n=120), read_only=True) as audit:
        session = Session(audit)
        for label in (0, 1, 2, 3):
            session.used(label)
        assert session.recent == [0, 1, 2, 3]
        session.used(1)
        session.used(0)
        assert session.recent == [0, 1, 2, 3]
        session.used(9)  # takes the place of 2, which was not used for longest
        assert session.recent == [0, 1, 9, 3]
        assert len(session.recent) == RECENT


async def test_training_asked_for_before_its_program_is_loaded_starts_then(tmp_path: Path) -> None:
    loaded = threading.Event()
    with Audit.open(make_audit(tmp_path, n=120), reviewer="tester") as audit:

        def make() -> JobManager:
            loaded.wait(120)
            return JobManager(audit, launcher="no-program-of-this-name")

        app = LabeltuiApp(audit, later=make)
        async with app.run_test(size=(120, 40)) as pilot:
            desk = Desk(audit, app, pilot)
            await pilot.pause()
            await desk.do("train")
            assert "starts in a moment" in desk.status
            await desk.do("train")
            assert "is running" in desk.status
            loaded.set()
            await desk.until(lambda: "no-program-of-this-name" in desk.text)  # it was started, once
            await desk.until(lambda: not app.training.active)


def test_reviewing_never_loads_torch(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)
    script = f"""
        import asyncio, sys
        from pathlib import Path
        from labeltui.audit import Audit
        from labeltui.train.jobs import JobManager
        from labeltui.tui.app import LabeltuiApp

        async def main():
            with Audit.open(Path({str(path)!r})) as audit:
                app = LabeltuiApp(audit, jobs=JobManager(audit))
                async with app.run_test() as pilot:
                    await pilot.press("1", "space", "u", "slash", "escape", "question_mark", "escape", "e", "escape")
                    await pilot.press("r", "enter", "escape", "escape")
                    await pilot.pause(0.3)

        asyncio.run(main())
        heavy = {{"torch", "timm", "torchvision", "sklearn", "pandas"}} & set(sys.modules)
        sys.exit(f"loaded {{heavy}}" if heavy else 0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-800:]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("theme", ["labeltui-dark", "labeltui-light", "labeltui-terminal"])
async def test_every_theme_paints_and_marks_the_cursor_without_colour(theme: str, tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120), theme=theme) as desk:
        assert desk.app.theme == theme
        await desk.do("keep", "down")
        row = next(line for line in desk.screen[2:] if "▌" in line)
        assert desk.audit.sample_name(desk.sample).split("/")[1][:-4] in row
        assert any("✓" in line and "keep" in line for line in desk.screen)


async def test_no_colour_is_sent_where_none_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        await desk.do("keep", "suggestion-1")
        await desk.pilot.pause(0.3)
        for strip in desk.app.screen._compositor.render_strips():
            for segment in strip:
                for colour in (segment.style.color, segment.style.bgcolor) if segment.style else ():
                    triplet = colour.triplet if colour is not None else None
                    assert triplet is None or max(triplet) - min(triplet) <= 2, (segment.text, triplet)
