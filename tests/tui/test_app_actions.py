"""Each action of the table, started by its key: the audit's state first, then what stands on the screen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from labeltui.audit import Audit
from labeltui.tui.actions import ACTIONS
from tests.factories import make_audit
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


class Trainer:
    """Jobs that do what a test says; the real ones are tried with the real trainer."""

    def __init__(self) -> None:
        self.started = self.cancelled = 0

    def start(self) -> Trainer:
        self.started += 1
        return self

    def status(self) -> Trainer | None:
        return self if self.started else None

    def poll(self) -> Trainer | None:
        return self.status()

    def cancel(self) -> None:
        self.cancelled += 1

    number, what, stage, progress, eta, message = 1, "head", "fold 2 of 5", 0.4, 75.0, ""

    @property
    def state(self) -> str:
        return "cancelled" if self.cancelled else "running"

    @property
    def active(self) -> bool:
        return self.state == "running"


@pytest.mark.parametrize("id_", [action.id for action in ACTIONS])
async def test_action(id_: str, tmp_path: Path) -> None:
    assert id_ in TRIALS, f"no trial of {id_}"
    async with at_desk(make_audit(tmp_path, n=120), jobs=Trainer()) as desk:
        await TRIALS[id_](desk)


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
    assert f"→ {desk.audit.names[label]}" in desk.status
    assert "→" in desk.screen[2][32:36]  # its row keeps its place, marked


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
    assert "6 has no class yet" in desk.status
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
    assert "took back" in desk.status
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
    await desk.pilot.resize_terminal(120, 14)
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
    jobs = desk.app.jobs
    assert isinstance(jobs, Trainer)
    await desk.do("cancel-training")
    assert desk.status == "no training job is running"
    await desk.do("train")
    await desk.until(lambda: "TRAIN" in desk.text)
    assert jobs.started == 1
    assert any("TRAIN head" in line and "40%" in line and "1m15s left" in line for line in desk.screen)
    await desk.do("train")
    assert jobs.started == 1
    assert "T cancels it" in desk.status
    await desk.do("cancel-training")
    assert jobs.cancelled == 1
    await desk.until(lambda: "TRAIN" not in desk.text)
    assert "job 1 cancelled" in desk.status
    assert not any("TRAIN" in line for line in desk.screen)


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
    assert "Take back the last decision" in desk.text
    await desk.press("escape")
    assert desk.app.screen is desk.review
    assert desk.audit.summary().reviewed == 0


@trial("palette")
async def runs_what_is_found_and_offers_only_what_is_possible(desk: Desk) -> None:
    await desk.do("palette")
    offered = [item.text for item in desk.review.panel.matches.items]
    assert "decide: keep" in offered
    assert "train: cancel" not in offered
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
    await desk.press("enter")
    assert desk.app.theme == "labeltui-light"
    assert desk.sample == desk.session.queue[0]


@trial("redraw")
async def paints_everything_anew(desk: Desk) -> None:
    desk.app.wire.forget(120, 40)
    desk.app.wire.squeeze("\x1b[1;1Hx")
    await desk.do("redraw")
    assert desk.app.wire.squeeze("\x1b[1;1Hx") == "\x1b[1;1Hx"


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
