"""Each action of the table, started by its key: the audit's state first, then what stands on the screen."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from labeltui.audit import Audit
from labeltui.graphics import canvas_of
from labeltui.studies.estimation import estimate
from labeltui.train import launch
from labeltui.train.compare import compare
from labeltui.train.jobs import list_jobs
from labeltui.tui import state
from labeltui.tui.actions import BY_ID
from labeltui.tui.screens.bulk import BulkScreen
from labeltui.tui.screens.image import ImageScreen
from labeltui.tui.screens.pairs import PairsScreen
from labeltui.tui.screens.runs import RunsScreen
from labeltui.tui.screens.sheet import SheetScreen
from labeltui.tui.session import Session
from tests.factories import make_audit
from tests.runs import begin, end, finished
from tests.tui.desk import Desk, at_desk

TRIALS: dict[str, Callable[[Desk], Awaitable[None]]] = {}


def trial(*ids: str) -> Callable[[Callable[[Desk], Awaitable[None]]], Callable[[Desk], Awaitable[None]]]:
    """Register what proves these actions."""

    def register(function: Callable[[Desk], Awaitable[None]]) -> Callable[[Desk], Awaitable[None]]:
        for id_ in ids:
            assert id_ not in TRIALS
            TRIALS[id_] = function
        return function

    return register


@trial("suggestion-1")
async def takes_the_first_suggestion(desk: Desk) -> None:
    sample, row = desk.sample, desk.session.row
    label = desk.audit.suggestions(sample)[0][0]
    await desk.do("suggestion-1")
    decision = desk.audit.decision(sample)
    assert decision is not None
    assert (decision.kind, decision.label, decision.reviewer) == ("relabel", label, "tester")
    assert desk.audit.current[sample] == label
    assert desk.session.row == row + 1
    assert desk.sample != sample
    assert f"✎ {desk.audit.sample_name(sample)}  {desk.audit.names[label]}, was " in desk.status
    assert "✎" in desk.screen[3][32:36]  # its row keeps its place, marked


@trial("suggestion-2", "suggestion-3", "suggestion-4")
async def takes_other_suggestions(desk: Desk) -> None:
    for number in (2, 3, 4):
        sample = desk.sample
        label = desk.audit.suggestions(sample)[number - 1][0]
        await desk.do(f"suggestion-{number}")
        assert desk.audit.current[sample] == label


@trial("suggestion-5")
async def says_that_there_is_no_fifth(desk: Desk) -> None:
    await desk.do("suggestion-5")  # the audit has four classes
    assert desk.audit.decision(desk.sample) is None
    assert desk.status == "there is no suggestion 5"


@trial("recent-1", "recent-2", "recent-3", "recent-4")
async def classes_used_last_keep_their_digits(desk: Desk) -> None:
    await desk.do("recent-1")
    assert "[6] has no class yet" in desk.status
    used = []
    for number in (1, 2, 3, 4):
        label = desk.audit.suggestions(desk.sample)[number - 1][0]
        await desk.do(f"suggestion-{number}")
        if label not in used:
            used.append(label)
    assert desk.session.recent == used
    for number, label in enumerate(used, 1):
        sample = desk.sample
        await desk.do(f"recent-{number}")
        assert desk.audit.current[sample] == label
    assert desk.session.recent == used


@trial("keep", "unsure", "skip", "exclude")
async def decides(desk: Desk) -> None:
    for kind in ("keep", "unsure", "skip", "exclude"):
        sample = desk.sample
        await desk.do(kind)
        decision = desk.audit.decision(sample)
        assert decision is not None
        assert decision.kind == kind
        assert desk.audit.current[sample] == desk.audit.given[sample]
        assert kind in desk.status
    assert desk.audit.summary().reviewed == 4
    assert all(kind in desk.text for kind in ("keep", "unsure", "skip", "exclude"))


@trial("class")
async def relabels_to_a_class_found_by_typing(desk: Desk) -> None:
    sample = desk.sample
    await desk.do("class")
    assert desk.review.panel.is_open
    await desk.type("ss3")
    await desk.press("enter")
    assert desk.audit.names[desk.audit.current[sample]] == "class3"
    assert not desk.review.panel.is_open
    sample = desk.sample
    await desk.do("class")
    await desk.type("q q")  # keys are letters while the panel is open
    await desk.press("escape")
    assert desk.audit.decision(sample) is None


@trial("ambiguous")
async def marks_ambiguous_with_and_without_a_second_label(desk: Desk) -> None:
    sample = desk.sample
    await desk.do("ambiguous")
    await desk.type("class2")
    await desk.press("enter")
    decision = desk.audit.decision(sample)
    assert decision is not None
    assert (decision.kind, desk.audit.names[decision.second]) == ("ambiguous", "class2")
    sample = desk.sample
    await desk.do("ambiguous")
    await desk.press("enter")
    decision = desk.audit.decision(sample)
    assert decision is not None
    assert (decision.kind, decision.second) == ("ambiguous", -1)


@trial("note")
async def writes_changes_and_removes_a_note(desk: Desk) -> None:
    sample = desk.sample
    await desk.do("note")
    await desk.type("blurred")
    await desk.press("left", "backspace", "end", "!", "enter")
    assert desk.audit.note_of(sample) == "blurrd!"
    assert desk.sample == sample
    assert "blurrd!" in desk.text
    await desk.do("note")
    await desk.press("ctrl+u", "enter")
    assert not desk.audit.note_of(sample)


@trial("mark", "mark-all", "bulk", "confirm")
async def decides_in_bulk_after_showing_the_effect(desk: Desk) -> None:
    await desk.do("mark", "mark")
    marked = sorted(desk.session.selected)
    assert marked == sorted(desk.session.queue[:2].tolist())
    assert "●2" in desk.screen[1]
    before = desk.audit.summary()
    await desk.do("bulk")
    bulk = desk.app.screen
    assert isinstance(bulk, BulkScreen)
    await desk.until(lambda: bulk.shown is not None)
    assert bulk.shown is not None
    assert bulk.shown.samples == 2
    assert desk.audit.summary() == before  # nothing has changed yet
    await desk.until(lambda: f"{bulk.shown.csg_after:.3f}" in desk.text if bulk.shown else False)
    await desk.do("confirm")
    assert desk.app.screen is desk.review
    for sample in marked:
        assert desk.audit.current[sample] == desk.audit.suggestions(sample)[0][0]
    assert desk.audit.summary().csg == pytest.approx(bulk.shown.csg_after)
    assert not desk.session.selected
    await desk.do("undo")
    assert desk.audit.summary().reviewed == 0
    await desk.do("mark-all")
    assert len(desk.session.selected) == len(desk.session.queue)
    await desk.do("mark-all")
    assert not desk.session.selected
    await desk.do("bulk")
    await desk.type("all")
    await desk.press("enter")
    bulk = desk.app.screen
    assert isinstance(bulk, BulkScreen)
    keep = next(row for row, choice in enumerate(bulk.choices.choices) if choice.kind == "keep")
    for _ in range(keep):
        await desk.do("down")
    await desk.do("confirm")
    assert desk.audit.decisions()["keep"] == len(desk.session.queue)
    assert desk.audit.journal_seq == 3  # bulk, undo, bulk


@trial(
    "neighbours", "large", "zoom-in", "zoom-out", "zoom-fit", "pan-left", "pan-right", "pan-up", "pan-down"
)
async def looks_closely(desk: Desk) -> None:
    sample = desk.sample
    await desk.do("neighbours")
    given = desk.audit.names[desk.audit.given[sample]]
    assert f"GIVEN {given}" in desk.text
    assert f"SUGGESTED {desk.audit.names[desk.audit.suggestions(sample)[0][0]]}" in desk.text
    await desk.do("down")
    assert desk.sample == desk.session.queue[1]
    await desk.do("up", "large")
    image = desk.app.screen
    assert isinstance(image, ImageScreen)
    assert image.crop == (0.0, 0.0, 1.0, 1.0)
    await desk.do("pan-left")
    assert image.crop == (0.0, 0.0, 1.0, 1.0)
    await desk.do("zoom-in", "zoom-in")
    assert image.zoom == pytest.approx(2.25)
    left, top, right, _ = image.crop
    assert right - left == pytest.approx(1 / 2.25)
    await desk.do("pan-left", "pan-up")
    assert image.crop[0] < left
    assert image.crop[1] < top
    for _ in range(20):
        await desk.do("pan-right", "pan-down")
    assert image.crop[2:] == pytest.approx((1.0, 1.0))
    await desk.do("zoom-out")
    assert image.zoom == pytest.approx(1.5)
    await desk.do("zoom-fit")
    assert image.crop == (0.0, 0.0, 1.0, 1.0)
    await desk.do("keep")
    decision = desk.audit.decision(sample)
    assert decision is not None
    assert desk.sample != sample
    await desk.do("back", "back")
    assert desk.app.screen is desk.review
    assert desk.review.queue.row == desk.session.row


@trial("next-sample", "previous-sample")
async def steps_through_large_images(desk: Desk) -> None:
    await desk.do("large", "next-sample", "next-sample")
    assert desk.session.row == 2
    assert desk.audit.sample_name(desk.sample) in desk.screen[0]
    await desk.do("previous-sample")
    assert desk.session.row == 1


@trial("sheet", "left", "right")
async def walks_and_decides_on_the_contact_sheet(desk: Desk) -> None:
    await desk.do("sheet")
    sheet = desk.app.screen
    assert isinstance(sheet, SheetScreen)
    await desk.do("right", "right", "left")
    assert desk.session.row == 1
    await desk.do("down")
    assert desk.session.row == min(1 + sheet.grid.across, len(desk.session.queue) - 1)
    await desk.do("top", "mark", "mark")
    assert len(desk.session.selected) == 2
    assert desk.text.count("●") == 2
    sample = desk.sample
    await desk.do("keep")
    assert desk.audit.decision(sample) is not None
    assert "✓ keep" in desk.text
    await desk.do("open")
    assert isinstance(desk.app.screen, ImageScreen)
    assert "review › sheet › IMAGE" in desk.screen[0]
    await desk.do("back", "back")
    assert desk.app.screen is desk.review


@trial("pairs", "swap", "by", "find")
async def opens_the_queue_of_a_pair(desk: Desk) -> None:
    await desk.do("down")
    before = desk.sample
    await desk.do("pairs")
    pairs = desk.app.screen
    assert isinstance(pairs, PairsScreen)
    best = desk.audit.pairs("overlap")[0]
    assert pairs.pair == (best.a, best.b)
    await desk.do("swap")
    assert pairs.pair == (best.b, best.a)
    await desk.do("by")
    assert pairs.list.by == "directed"
    first = desk.audit.pairs("directed")[0]
    assert pairs.pair == (first.a, first.b)
    await desk.do("find")
    await desk.type("class2 class1")
    await desk.press("enter")
    assert set(pairs.pair or ()) == {1, 2}
    a, b = pairs.pair or (0, 0)
    if not pairs.list.flags.get((a, b)):
        await desk.do("swap")
        a, b = b, a
    await desk.do("open")
    assert (desk.session.spec.given, desk.session.spec.suggested) == (a, b)
    queue = desk.session.queue
    assert len(queue) == pairs.list.flags.get((a, b), 0)
    assert (desk.audit.given[queue] == a).all()
    assert (desk.audit.suggested[queue, 0] == b).all()
    assert "pairs › " in desk.screen[1]
    await desk.do("back")
    pairs = desk.app.screen
    assert isinstance(pairs, PairsScreen)
    assert set(pairs.pair or ()) == {a, b}  # the cursor is where it was
    await desk.do("back")
    assert desk.app.screen is desk.review
    assert (desk.session.spec.given, desk.session.spec.suggested) == (None, None)
    assert desk.sample == before


@trial(
    "conflicts",
    *(f"resolve-{n}" for n in range(1, 10)),
    "resolve-class",
    "resolve-exclude",
    "resolve-keep",
    "across-splits",
)
async def resolves_conflicts_of_copies(desk: Desk) -> None:
    await desk.do("conflicts")
    assert "labels of duplicates agree" in desk.text
    await desk.press("1")
    assert "there is no conflict" in desk.text
    await desk.do("across-splits")
    assert "no image lies in several splits" in desk.text
    await desk.do("back")
    assert desk.app.screen is desk.review  # real conflicts: test_app_conflicts


@trial("jump")
async def jumps_to_a_letter(desk: Desk) -> None:
    await desk.do("jump")
    letters = {place: letter for letter, place in desk.review.letters.items()}
    assert "a CLASSES" in desk.screen[1]
    await desk.press(letters["queue", 3])
    assert (desk.review.pane, desk.session.row) == ("queue", 3)
    await desk.do("jump")
    await desk.press("d")  # the preview's letter, not exclude
    assert desk.review.pane == "preview"
    assert desk.audit.summary().reviewed == 0
    await desk.do("jump")
    await desk.press("f1")
    assert not desk.review.letters


@trial("clear-filters", "views")
async def keeps_combined_filters_as_a_view(desk: Desk) -> None:
    async def choose(id_: str, words: str, *then: str) -> None:
        await desk.do(id_)
        await desk.type(words)
        await desk.press("enter", *then)

    everything = len(desk.session.queue)
    sample = desk.sample
    given, suggested = int(desk.audit.given[sample]), int(desk.audit.suggested[sample, 0])
    await choose("filter", "given", *desk.audit.names[given], "enter")
    await choose("filter", "suggested", *desk.audit.names[suggested], "enter")
    await choose("filter", "label score", *"0 .. 0.3", "enter")
    queue = desk.session.queue
    assert 0 < len(queue) < everything
    assert (desk.audit.given[queue] == given).all()
    assert (desk.audit.suggested[queue, 0] == suggested).all()
    assert (desk.audit.scores[queue] < 0.3).all()
    assert "score 0 to 0.3" in desk.status
    await choose("views", "save", *"sure ones", "enter")
    await desk.do("clear-filters")
    await choose("filter", "given", *"all", "enter")
    assert len(desk.session.queue) == everything
    again = Session(desk.audit)
    state.restore(again, state.load(desk.audit.uuid))
    assert list(again.views) == ["sure ones"]  # for the next start
    await choose("views", "sure")
    assert np.array_equal(desk.session.queue, queue)
    await choose("views", "remove", "enter")
    assert not desk.session.views


@trial("filter", "order", "sort")
async def narrows_and_sorts(desk: Desk) -> None:
    async def choose(id_: str, words: str, *then: str) -> None:
        await desk.do(id_)
        await desk.type(words)
        await desk.press("enter", *then)

    everything = len(desk.session.queue)
    part = desk.audit.sample_name(desk.sample)[-8:-4]
    await choose("filter", "path", *part, "enter")
    assert 0 < len(desk.session.queue) < everything
    assert all(part in desk.audit.sample_name(int(sample)) for sample in desk.session.queue)
    assert f"path has {part}" in desk.screen[1]
    await choose("filter", "path", "ctrl+u", *"nothing-like-it", "enter")
    assert len(desk.session.queue) == 0
    assert "No sample passes these filters" in desk.text
    await choose("filter", "no filter")
    assert len(desk.session.queue) == everything
    await choose("filter", "score", *"0.2", "enter")
    assert (desk.audit.scores[desk.session.queue] < 0.2).all()
    await choose("filter", "score", *"much", "enter")
    assert "a label score is a number" in desk.status
    await choose("filter", "no filter")
    await desk.do("keep")
    await choose("filter", "decided: keep")
    assert len(desk.session.queue) == 1
    await choose("filter", "no filter")
    detector = next(iter(desk.audit.detectors()))
    await choose("filter", "one detector", *detector, "enter")
    assert desk.session.spec.detector == detector
    await choose("filter", "no filter")
    sample = desk.sample
    await choose("order", "most uncertain")
    scores = desk.audit.scores[desk.session.queue]
    assert (np.diff(np.abs(scores - 0.5)) >= 0).all()
    assert desk.sample == sample
    await choose("order", "overlap reduction")
    assert desk.session.spec.order == "drop"
    assert desk.sample == sample
    await choose("sort", "name")
    assert [row.name for row in desk.session.classes] == sorted(desk.audit.names)


@trial("checks")
async def puts_random_checks_in_the_place_of_flags(desk: Desk) -> None:
    await desk.do("checks")
    checks = desk.session.queue.copy()
    flagged = desk.audit.flags[checks]
    assert flagged.any()
    assert not flagged.all()
    assert "random checks" in desk.text
    left = desk.session.left
    for _ in range(int(np.argmax(flagged)) + 1):  # a flag that is checked shows no suggestion
        assert "a random check" in desk.text
        await desk.do("keep")
    done = desk.session.checks.estimate(desk.session.spec).wrong.checks
    assert done == np.argmax(flagged) + 1 == left - desk.session.left
    assert f"{done} done" in desk.text
    assert "errors left about" in desk.text
    assert "precision of flags here" in desk.text
    await desk.do("checks")
    assert desk.audit.flags[desk.session.queue].all()  # the check looked at last is gone
    assert desk.session.sample == desk.session.queue[0]
    await desk.press("down", "down")
    before = desk.sample
    await desk.do("checks")
    await desk.do("checks")
    assert desk.sample == before


@trial("source")
async def finds_moved_images(desk: Desk) -> None:
    data = desk.audit.path.parent / "data"
    elsewhere = data.rename(data.with_name("elsewhere"))
    desk.review.preview.forget()
    desk.review.preview.show()
    await desk.until(lambda: desk.review.preview.image.encoded is None)
    await desk.do("palette")
    await desk.type("images")
    await desk.press("enter", "ctrl+u")
    await desk.paste(str(elsewhere))
    await desk.press("enter")
    await desk.until(lambda: desk.review.preview.image.encoded is not None)
    assert desk.audit.images.root == elsewhere


@trial("undo", "redo")
async def takes_back_and_does_again(desk: Desk) -> None:
    first = desk.sample
    await desk.do("undo")
    assert desk.status == "nothing to undo"
    await desk.do("keep", "exclude")
    second = desk.audit.summary().reviewed
    assert second == 2
    await desk.do("undo", "undo")
    assert desk.audit.summary().reviewed == 0
    assert desk.sample == first
    assert "undone" in desk.status
    await desk.do("redo")
    decision = desk.audit.decision(first)
    assert decision is not None
    assert decision.kind == "keep"
    await desk.do("redo", "redo")
    assert desk.status == "nothing to redo"


@trial("down", "up", "page-down", "page-up", "top", "bottom")
async def moves_in_the_queue(desk: Desk) -> None:
    last = len(desk.session.queue) - 1
    await desk.do("down", "down", "up")
    assert desk.session.row == 1
    assert desk.sample == desk.session.queue[1]
    await desk.do("bottom")
    assert desk.session.row == last
    await desk.do("down")
    assert desk.session.row == last
    await desk.do("top")
    assert desk.session.row == 0
    await desk.pilot.resize_terminal(120, 16)
    await desk.pilot.pause()
    await desk.do("page-down")
    assert 1 < desk.session.row <= last
    await desk.do("page-up")
    assert desk.session.row == 0


@trial("next-pane", "previous-pane")
async def goes_round_the_panes(desk: Desk) -> None:
    assert desk.review.pane == "queue"
    await desk.do("next-pane")
    assert desk.review.pane == "preview"
    await desk.do("next-pane")
    assert desk.review.pane == "classes"
    await desk.do("down", "down")
    assert (desk.review.class_list.row, desk.session.row) == (2, 0)
    await desk.do("previous-pane", "previous-pane")
    assert desk.review.pane == "queue"


@trial("open", "back")
async def opens_a_class_and_goes_back(desk: Desk) -> None:
    await desk.do("back", "down", "open")
    label = desk.session.classes[0].index
    assert desk.session.spec.given == label
    assert (desk.audit.given[desk.session.queue] == label).all()
    assert desk.review.pane == "queue"
    assert f"QUEUE {desk.audit.names[label]}" in desk.screen[1]
    await desk.do("back")
    assert desk.review.pane == "classes"


@trial("next-class", "previous-class")
async def steps_through_classes(desk: Desk) -> None:
    order = [row.index for row in desk.session.classes]
    await desk.do("next-class")
    assert desk.session.spec.given == order[0]
    await desk.do("next-class")
    assert desk.session.spec.given == order[1]
    await desk.do("previous-class", "previous-class")
    assert desk.session.spec.given is None
    await desk.do("previous-class")
    assert desk.session.spec.given == order[-1]


@trial("train", "cancel-training")
async def trains_and_cancels(desk: Desk) -> None:
    await desk.do("cancel-training")
    assert desk.status == "no training job is running"
    await desk.do("train")
    await desk.until(lambda: "TRAIN" in desk.text)
    await desk.until(lambda: "epoch 2/4  acc .75" in desk.text)
    assert any("TRAIN head" in line and "40%" in line and "left" in line for line in desk.screen)
    await desk.do("train")
    assert len(list_jobs(desk.audit.path)) == 1
    assert "[T] cancels it" in desk.status
    await desk.do("cancel-training")
    (job,) = list_jobs(desk.audit.path)
    assert (job.directory / "cancel").exists()
    end(job.directory, "cancelled", "stopped on request")
    await desk.until(lambda: "TRAIN" not in desk.text)
    assert "run 1 cancelled: stopped on request; [r] shows it" in desk.status


@trial("runs", "resume-run", "cancel-run")
async def goes_on_with_a_lost_run_and_cancels_it(desk: Desk) -> None:
    await desk.do("runs", "resume-run")
    assert "there is no run yet" in desk.status
    await desk.do("back", "train", "runs")
    screen = desk.app.screen
    assert isinstance(screen, RunsScreen)
    job = list_jobs(desk.audit.path)[0]
    await desk.until(lambda: "running 40%" in desk.text)
    assert "loss" in desk.text
    assert "epoch 2/4" in desk.text
    await desk.do("resume-run")
    assert desk.status == "this run is running: one that was lost, paused, cancelled or failed can be resumed"
    (job.directory / "heartbeat.json").write_text('{"host": "elsewhere"}')
    os.utime(job.directory / "heartbeat.json", (0, 0))
    await desk.until(lambda: "? lost" in desk.text)
    assert "its process ended unexpectedly" in desk.text
    await desk.until(lambda: desk.status.startswith("run 1 lost"))
    await desk.do("cancel-run")
    assert desk.status == "this run is lost already"
    await desk.do("resume-run")
    await desk.until(lambda: "run 1 resumes from its last checkpoint" in desk.status)
    await desk.until(lambda: "▶ running" in desk.text)
    assert len(list_jobs(desk.audit.path)) == 1
    await desk.do("cancel-run")
    await desk.until(lambda: desk.status == "run 1 is asked to stop")
    assert (job.directory / "cancel").exists()
    end(job.directory, "cancelled")
    await desk.until(lambda: "× cancelled" in desk.text)
    await desk.do("back")
    assert desk.app.screen is desk.review


@trial("mark-run", "mark-runs", "compare", "measure", "reference")
async def compares_runs_on_three_label_vectors(desk: Desk) -> None:
    path = desk.audit.path
    truth = np.load(path.parent / "truth.npy")
    for labels, right in (("given", 0.6), ("current", 0.9)):
        for seed in range(2):
            finished(path, labels, seed, right)
    desk.audit.decide(np.flatnonzero(desk.audit.given != truth), "keep")
    await desk.do("runs", "mark-run", "mark-run")
    screen = desk.app.screen
    assert isinstance(screen, RunsScreen)
    assert "2 marked" in desk.screen[0]
    assert [desk.screen[row][1] for row in (2, 3, 4, 5)] == ["●", "●", " ", " "]
    await desk.do("mark-runs")
    assert "marked" not in desk.screen[0]
    await desk.do("mark-runs")
    assert "4 marked" in desk.screen[0]
    await desk.do("compare")
    await desk.until(lambda: "current, head minus given, head" in desk.text)
    assert "2 seeds, Student's t" in desk.text
    assert "by given labels" in desk.text
    assert "by current labels" in desk.text
    assert "by reference" not in desk.text
    table = path.parent / "truth.csv"
    rows = [f"{desk.audit.sample_id(i).decode()},class{truth[i]}" for i in range(desk.audit.n)]
    table.write_text("\n".join(["path,truth", *rows]) + "\n")
    await desk.do("reference")
    await desk.paste(f"{table}:nose")
    await desk.press("enter")
    await desk.until(lambda: "must have the columns path and" in desk.status)
    if "This was not possible" in desk.text:  # too long for one line, by the length of the path
        assert "nose" in desk.text
        await desk.press("escape")
    else:
        assert "must have the columns path and nose" in desk.status
    assert "by given labels" in desk.text
    await desk.do("reference")
    await desk.press("ctrl+u")
    await desk.paste(f"{table}:truth")
    await desk.press("enter")
    await desk.until(lambda: "by reference labels" in desk.text)
    made = compare(desk.audit, [job.id for job in list_jobs(path)], f"{table}:truth")
    gap = next(each for each in made.differences if each.measure == "accuracy")
    (line,) = (line for line in desk.screen if "by reference labels" in line)
    assert f"{gap.mean:+.4f}" in line
    assert f"{gap.low:+.4f} .. {gap.high:+.4f}" in line
    for row in made.rows:
        (line,) = (line for line in desk.screen if line[1:].startswith(f"{row.job.number:>3} head"))
        assert line.rstrip().endswith(f"{row.metrics.accuracy:.4f}")
        assert row.labels in line
    await desk.do("measure")
    assert "balanced accuracy" in desk.screen[0]
    assert f"{made.rows[0].metrics.balanced_accuracy:.4f}" in desk.text
    await desk.do("back", "back")
    assert desk.session.reference == f"{table}:truth"


@trial("export")
async def exports_where_it_is_told_and_replaces_only_when_asked(desk: Desk) -> None:
    sample = desk.sample
    await desk.do("suggestion-1")
    out = desk.audit.path.parent / "out.csv"
    for _ in range(2):
        await desk.do("export")
        await desk.press("enter", "ctrl+u")
        await desk.paste(str(out))
        await desk.press("enter")
        if out.exists() and desk.review.panel.is_open:
            assert "exists" in desk.review.panel.heading.text
            await desk.type("replace")
            await desk.press("enter")
        await desk.until(lambda: "✓ wrote" in desk.status)
    lines = out.read_text().splitlines()
    assert len(lines) == desk.audit.n + 1
    assert f",{desk.audit.names[desk.audit.current[sample]]},relabel," in lines[sample + 1]
    await desk.do("export")
    await desk.type("changed")
    await desk.press("enter", "ctrl+u")
    await desk.paste(str(out.with_name("changed.csv")))
    await desk.press("enter")
    await desk.until(lambda: "changed.csv: 1 rows" in desk.status)
    assert len(out.with_name("changed.csv").read_text().splitlines()) == 2


@trial("help")
async def shows_help_made_from_the_table(desk: Desk) -> None:
    await desk.do("help")
    assert "suggested" in desk.text
    assert "Undo the last decision" in desk.text
    await desk.press("escape")
    assert desk.app.screen is desk.review
    assert desk.audit.summary().reviewed == 0


@trial("palette")
async def runs_what_is_found_and_offers_only_what_is_possible(desk: Desk) -> None:
    await desk.do("palette")
    offered = [item.text for item in desk.review.panel.matches.items]
    assert "keep" in offered
    assert "cancel training" not in offered
    sample = desk.sample
    await desk.type("decide exc")
    await desk.press("enter")
    decision = desk.audit.decision(sample)
    assert decision is not None
    assert decision.kind == "exclude"


@trial("theme")
async def changes_colours(desk: Desk) -> None:
    await desk.do("palette")
    await desk.type("theme")
    await desk.press("enter")
    await desk.type("light")
    assert desk.app.theme == "labeltui-light"  # seen before it is selected
    await desk.press("escape")
    assert desk.app.theme == "labeltui-dark"
    assert state.choice("theme") == ""
    await desk.do("palette")
    await desk.type("colors")
    await desk.press("enter", "down", "enter")
    assert desk.app.theme == "labeltui-light"
    assert state.choice("theme") == "labeltui-light"  # for every audit of this person
    assert desk.sample == desk.session.queue[0]


@trial("noise-budget")
async def says_what_the_next_reviews_are_worth(desk: Desk) -> None:
    await desk.do("noise-budget")
    assert desk.review.reader.is_open
    said = " ".join("".join(text for text, _ in line) for line in desk.review.reader.text.text_lines)
    said = " ".join(said.split())
    made = estimate(desk.audit)
    assert f"Wrong among {made.samples:,} given labels: {made.wrong_now()}." in said
    for each in made.reviewing:
        assert f"{each.reviews:,} {each.corrected:,.1f} {made.wrong_after(each)}" in said
    assert f"--batch-size {made.training.batch}" in said
    await desk.press("escape")
    assert not desk.review.reader.is_open


@trial("scaling")
async def enlarges_smoothly_and_back(desk: Desk) -> None:
    canvas = canvas_of(desk.app)
    assert not canvas.smooth
    await desk.do("scaling")
    assert canvas.smooth
    assert state.choice("scaling") == "smooth"  # for every audit of this person
    await desk.do("scaling")
    assert not canvas.smooth
    assert state.choice("scaling") == "pixels"


@trial(
    "plots",
    "plot-map",
    "plot-reliability",
    "plot-accuracy",
    "plot-loss",
    "plot-next",
    "plot-previous",
    "plot-run",
)
async def plots_what_there_is(desk: Desk) -> None:
    pytest.importorskip("plotille")
    label = int(desk.audit.given[desk.sample])
    await desk.do("plots")
    await desk.until(lambda: "dimensions" in desk.text)
    order = [None, *desk.session.classes.labels]
    for action, by in (("plot-next", 1), ("plot-previous", 0), ("plot-previous", -1)):
        await desk.do(action)
        now = order[(order.index(label) + by) % len(order)]
        assert ("all classes" if now is None else desk.audit.names[now]) in desk.screen[0]
    await desk.do("plot-reliability")
    assert "No diagram yet" in desk.text
    await desk.do("plot-accuracy")
    await desk.until(lambda: "No run yet" in desk.text)
    await desk.do("plot-map")
    assert "dimensions" in desk.text
    await desk.do("back", "train", "runs")
    await desk.until(lambda: "running 40%" in desk.text)
    await desk.do("plot-run")
    await desk.until(lambda: "last  0.7500" in desk.text)
    await desk.do("plot-loss")
    assert "last  0.5000" in desk.text
    await desk.do("back")
    assert isinstance(desk.app.screen, RunsScreen)
    (job,) = list_jobs(desk.audit.path)
    end(job.directory, "cancelled")


@trial("redraw")
async def paints_everything_anew(desk: Desk) -> None:
    desk.app.differ.forget(120, 40)
    desk.app.differ.difference("\x1b[1;1Hx")
    await desk.do("redraw")
    assert desk.app.differ.difference("\x1b[1;1Hx") == "\x1b[1;1Hx"


@trial("quit")
async def leaves_with_everything_saved(desk: Desk) -> None:
    sample = desk.sample
    await desk.do("keep", "quit")
    assert desk.app._exit
    desk.audit.flush()
    with Audit.open(desk.audit.path, read_only=True) as again:
        decision = again.decision(sample)
        assert decision is not None
        assert decision.kind == "keep"
    assert np.array_equal(desk.audit.given, desk.audit.current)


def test_every_action_is_tried() -> None:
    assert set(TRIALS) == set(BY_ID)


@pytest.mark.parametrize("tried", dict.fromkeys(TRIALS.values()), ids=lambda function: function.__name__)
async def test_action(
    tried: Callable[[Desk], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "launch", begin)
    async with at_desk(make_audit(tmp_path, n=120), trains=True) as desk:
        await tried(desk)
