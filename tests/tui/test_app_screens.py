"""Screens that open over the review screen, on audits made for them."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from scipy.stats import beta

from labeltui.audit import Audit, QueueSpec
from labeltui.embed import EmbedSpec
from labeltui.head import HeadSpec
from labeltui.scanning import ScanOptions, scan
from labeltui.sharing import merge
from labeltui.text import probability
from labeltui.tui import state
from labeltui.tui.checks import AT_A_TIME, Checks, clopper_pearson
from labeltui.tui.screens.conflicts import ConflictsScreen
from labeltui.tui.session import Session
from labeltui.tui.widgets.labels import labels_title
from labeltui.tui.widgets.over import Item, rank
from tests.factories import make_audit
from tests.runs import end, finished
from tests.tui.desk import at_desk
from tests.tui.drawn import draw_audit

HEAD = HeadSpec(hidden=32, components=32, epochs=2, least_steps=10)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """An audit in which three images stand in two classes each."""
    data = make_audit(tmp_path / "made", n=120).parent / "data"
    for copy, file in enumerate(sorted((data / "class0").iterdir())[:3]):
        shutil.copy(file, data / "class1" / f"copy{copy}.png")
        if copy == 2:
            shutil.copy(file, data / "class2" / "again.png")
    audit = tmp_path / "copies.audit"
    scan(data, audit, ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=HEAD))
    return audit


async def test_reviewers_who_disagree_are_conflicts_too(tmp_path: Path) -> None:
    first = make_audit(tmp_path, n=120, classes=3)
    shutil.copytree(first, tmp_path / "bob.audit")
    for path, name, kinds in (
        (first, "ada", ("keep", "exclude")),
        (tmp_path / "bob.audit", "bob", ("exclude", "keep")),
    ):
        with Audit.open(path, reviewer=name) as audit:
            for sample, kind in enumerate(kinds):
                audit.decide([sample], kind)
    merge([first, tmp_path / "bob.audit"])
    async with at_desk(first) as desk:
        await desk.do("conflicts")
        assert "2 of 2 left" in desk.screen[0]
        assert "ada: class0; bob: exclude" in desk.text
        assert "[2] bob: exclude" in desk.text
        await desk.do("resolve-2")
        decision = desk.audit.decision(0)
        assert decision is not None
        assert decision.kind == "exclude"
        assert "1 of 2 left" in desk.screen[0]
        await desk.do("resolve-9")
        assert "there are 2 decisions" in desk.status
        await desk.do("resolve-2")
        assert not desk.audit.disagreements()
        assert "0 of 2 left" in desk.screen[0]
        for _ in range(3):
            await desk.do("undo")  # the third one is the merge
        assert not desk.audit.disagreements()
        assert "merge" in desk.status


async def test_conflicts_are_resolved_by_one_key_each(copies: Path) -> None:
    async with at_desk(copies) as desk:
        assert len(desk.audit.conflicts()) == 3
        await desk.do("conflicts")
        screen = desk.app.screen
        assert isinstance(screen, ConflictsScreen)
        assert "3 of 3 left" in desk.screen[0]
        first = screen.group
        labels = [int(desk.audit.current[sample]) for sample in first]
        assert f"[2] {desk.audit.names[labels[1]]}" in desk.text
        await desk.do("resolve-2")
        assert [int(desk.audit.current[sample]) for sample in first] == [labels[1]] * len(first)
        assert len(desk.audit.conflicts()) == 2
        assert screen.group != first
        second = screen.group
        await desk.do("resolve-exclude")
        assert all(desk.audit.decision(sample).kind == "exclude" for sample in second)  # type: ignore[union-attr]
        assert len(desk.audit.conflicts()) == 1
        await desk.do("undo")
        assert len(desk.audit.conflicts()) == 2
        await desk.do("resolve-class")
        await desk.type("class3")
        await desk.press("enter")
        await desk.do("resolve-keep")
        assert "No conflict is left" in desk.status
        assert "0 of 3 left" in desk.screen[0]
        await desk.do("resolve-9")
        assert "there are" in desk.status
        await desk.do("up", "open")
        assert desk.app.screen is desk.review


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_runs_can_be_read_and_compared_at_every_size(size: tuple[int, int], tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=240)
    for labels, right in (("given", 0.6), ("current", 0.9)):
        for seed in range(3):
            finished(path, labels, seed, right)
    async with at_desk(path, size=size) as desk:
        await desk.do("runs")
        await desk.until(lambda: "epoch 2/4" in desk.text)
        for word in ("6 runs", "✓ done", "seed 2", "loss", "accuracy", "calibration error", "[⏎] compare"):
            assert word in desk.text, word
        assert all(cell_len(line) == size[0] for line in desk.screen)
        await desk.do("mark-runs", "compare")
        await desk.until(lambda: "by current labels" in desk.text)
        for word in (
            "6 runs",
            "seed 0",
            "current, head minus given, head",
            "3 seeds, Student's t",
            "95 %",
            "better",
        ):
            assert word in desk.text, word
        assert all(cell_len(line) == size[0] for line in desk.screen)
        assert "… " not in "".join(line for line in desk.screen[1:8])


async def test_runs_are_only_looked_at_where_nothing_may_be_written(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)
    end(path / "runs" / finished(path, "given", 0, 0.8), "lost")
    async with at_desk(path, read_only=True) as desk:
        await desk.do("runs", "resume-run")
        assert desk.status == "this audit is open for reading only"
        await desk.do("compare")
        assert "runs that are done can be compared" in desk.status


async def test_an_order_that_the_audit_cannot_have_is_not_offered(tmp_path: Path) -> None:
    async with at_desk(draw_audit(tmp_path)) as desk:
        assert "csg" not in desk.audit.detectors()
        await desk.do("order")
        assert "most uncertain" in desk.text
        assert "overlap reduction" not in desk.text


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (300, 100)])
async def test_each_vote_stands_beside_the_image_and_no_title_is_pushed_off(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    async with at_desk(make_audit(tmp_path, n=240), size=size) as desk:
        audit, sample = desk.audit, desk.sample
        votes = audit.evidence(sample).votes
        facts = desk.review.preview.facts.text
        proposed = Counter(audit.names[vote.proposes] for vote in votes[:-1] if vote.proposes is not None)
        if size == (80, 24):
            (name, count), *_ = proposed.most_common(1)
            assert f"{count} of {len(votes) - 1} detectors: {name}" in facts
        else:
            for vote in votes:
                label = "–" if vote.proposes is None else audit.names[vote.proposes]
                assert re.search(rf"{label} +{re.escape(probability(vote.score))}( |$)", facts, re.M)
        audit.names[:] = [f"a class of number {k}" for k in range(audit.K)]
        desk.review.paint_titles()
        title = desk.review.preview_title.text
        assert len(title) <= desk.review.preview_title.size.width
        given, suggested = int(audit.given[sample]), audit.suggestions(sample)[0][0]
        if size == (80, 24):  # both are cut alike, and what tells them apart is kept
            assert title.count("…") == 2
            assert f"{given} → " in title
            assert f"r {suggested}" in title
        else:
            assert audit.names[given] in title
            assert audit.names[suggested] in title


async def test_the_place_survives_a_restart(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=240)
    async with at_desk(path) as desk:
        await desk.do("next-class")
        await desk.do("suggestion-1", "suggestion-2", "down")
        await desk.do("order")
        await desk.type("uncertain")
        await desk.press("enter")
        sample, spec, recent = desk.sample, desk.session.spec, list(desk.session.recent)
        await desk.do("quit")
        await desk.pilot.pause()
    async with at_desk(path) as desk:
        assert desk.session.spec == spec
        assert desk.sample == sample
        assert desk.session.recent == recent
        assert desk.review.queue.row == desk.session.row
        assert "most uncertain" in desk.screen[1]


@pytest.mark.parametrize(
    "stored",
    [
        "not json",
        "[]",
        '{"format": 9}',
        '{"format": 1, "spec": {"given": 99}, "sample": 5, "recent": ["gone"], "class_order": "nose"}',
        '{"format": 1, "spec": {"order": "up"}, "sample": "x", "recent": 3}',
        '{"format": 1, "spec": {"given": "0", "text": 7}, "sample": 100000}',
    ],
)
def test_a_strange_memory_is_no_hindrance(stored: str, tmp_path: Path) -> None:
    with Audit.open(make_audit(tmp_path, n=120), read_only=True) as audit:
        file = state.file_of(audit.uuid)
        file.parent.mkdir(parents=True)
        file.write_text(stored)
        session = Session(audit)
        state.restore(session, state.load(audit.uuid))
        assert session.spec == QueueSpec()
        assert len(session.queue) == audit.summary().flags


def test_intervals_are_exact() -> None:
    for hits, trials in ((0, 10), (3, 10), (10, 10), (17, 300)):
        low, high = clopper_pearson(hits, trials)
        assert low == pytest.approx(beta.ppf(0.025, hits, trials - hits + 1) if hits else 0.0)
        assert high == pytest.approx(beta.ppf(0.975, hits + 1, trials - hits) if hits < trials else 1.0)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_checks_are_a_random_sample_in_which_bulk_decisions_count_for_nothing(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=240, flips=0.2)
    truth = np.load(tmp_path / "truth.npy")
    with Audit.open(path) as audit:
        checks = Checks(audit)
        spec = QueueSpec()
        coming = checks.queue(spec)
        assert np.array_equal(coming, checks.queue(spec))  # seeded
        assert len(set(coming.tolist())) == len(coming) == AT_A_TIME
        # What the detectors say chooses none of them.
        assert np.array_equal(coming, checks.queue(QueueSpec(suggested=1, score_below=0.2)))
        before = checks.estimate(spec)
        assert before.precision is None
        assert before.errors_left[1] == 0
        order = checks.samples(spec)
        for sample in order[:40].tolist():  # a person who is always right
            right = truth[sample] == audit.given[sample]
            audit.decide([sample], "keep" if right else "relabel", None if right else int(truth[sample]))
        bulk = audit.queue(spec)[:5]
        audit.decide(bulk, "relabel", audit.suggested[bulk, 0])  # accepted unseen: says nothing
        known = checks.estimate(spec)
        assert known.wrong.checks == 40
        flags = order[:40][audit.flags[order[:40]]]
        assert known.flags == len(flags)
        assert known.wrong_flags == int((truth[flags] != audit.given[flags]).sum())
        assert known.precision is not None


async def test_checks_look_alike_and_show_no_figure_until_they_are_decided(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=240, flips=0.2)
    async with at_desk(path) as desk:
        came_from = desk.sample
        await desk.do("checks")
        session, rows = desk.session, desk.review.queue
        assert came_from is not None
        assert came_from not in session.queue[: session.row]  # nothing but checks, in their order
        assert set(session.queue.tolist()) == session.check_samples
        flagged = session.audit.flags[session.queue]
        assert flagged.any()
        assert not flagged.all()
        for row in range(len(session.queue)):
            text = "".join(text for text, _ in rows.pieces(row, 60))
            assert "→" not in text
            assert text.split()[1] == "–"  # in the place of the score
        at = int(np.argmax(flagged))
        for _ in range(at):
            await desk.press("j")
        sample = desk.sample
        assert sample is not None
        assert session.suggestions(sample) == []
        assert session.audit.suggestions(sample) != []
        assert "a random check" in desk.text
        assert "→" not in "".join(text for text, _ in labels_title(session, sample, 60))
        session.mark()
        session.mark_all()
        assert not session.selected
        await desk.do("keep")
        assert session.suggestions(sample) == session.audit.suggestions(sample)
        assert session.audit.looked_at(sample)


async def test_checks_are_there_when_every_flag_is_reviewed_and_end_when_a_sample_is_looked_up(
    tmp_path: Path,
) -> None:
    path = make_audit(tmp_path, n=240, flips=0.2)
    async with at_desk(path) as desk:
        session = desk.session
        flags = session.queue.tolist()
        session.decide(flags, "keep")  # in bulk: they may come again as checks
        await desk.do("checks")
        assert len(session.queue) == AT_A_TIME
        assert set(flags) & set(session.queue.tolist())
        other = next(i for i in range(session.audit.n) if i not in session.check_samples)
        session.visit(other)
        assert not session.checking
        assert desk.sample == other


def test_the_finder_ranks_as_people_expect() -> None:
    names = ["category", "cat", "concatenate", "black cat", "dog", "budgie"]
    items = [Item(name, name) for name in names]
    found = [names[place] for place in rank("cat", items)]
    assert found == ["cat", "category", "black cat", "concatenate"]
    assert [names[place] for place in rank("bdg", items)] == ["budgie"]
    assert [names[place] for place in rank("cat bl", items)] == ["black cat"]
    assert rank("", items) == list(range(len(items)))
    assert rank("zzz", items) == []


async def test_duplicates_across_splits_leave_one_split_by_one_key(tmp_path: Path) -> None:
    data = make_audit(tmp_path / "made", n=120).parent / "data"
    parted = tmp_path / "parted"
    shutil.copytree(data, parted / "train")
    for label in ("class0", "class1"):
        (parted / "test" / label).mkdir(parents=True)
        for file in sorted((data / label).iterdir())[:2]:
            shutil.copy(file, parted / "test" / label)
    audit = tmp_path / "parted.audit"
    scan(parted, audit, ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=HEAD))
    async with at_desk(audit) as desk:
        assert len(desk.audit.across_splits()) == 4
        await desk.do("conflicts")
        assert "labels of duplicates agree" in desk.screen[0]
        assert "[o] shows 4 across splits" in desk.screen[0]
        await desk.do("across-splits")
        screen = desk.app.screen
        assert isinstance(screen, ConflictsScreen)
        assert "4 of 4 left" in desk.screen[0]
        splits = [desk.audit.split_of(sample) for sample in screen.group]
        assert sorted(splits) == ["test", "train"]
        kept, left = screen.group[splits.index("test")], screen.group[splits.index("train")]
        await desk.do(f"resolve-{splits.index('test') + 1}")
        assert desk.audit.decision(kept) is None
        assert desk.audit.decision(left).kind == "exclude"  # type: ignore[union-attr]
        assert len(desk.audit.across_splits()) == 3
        assert "3 of 4 left" in desk.screen[0]
        await desk.do("undo")
        assert len(desk.audit.across_splits()) == 4
        await desk.do("across-splits")
        assert "LABEL CONFLICTS" in desk.screen[0]


async def test_somebody_new_is_greeted_and_the_first_key_only_closes_that(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120), welcome=True) as desk:
        assert "Is the given label right?" in desk.text
        assert "space" in desk.text
        sample = desk.sample
        await desk.press("space")
        assert desk.audit.decision(sample) is None
        assert "QUEUE" in desk.text
        await desk.press("space")
        assert desk.audit.decision(sample) is not None


def test_only_the_first_start_is_the_first(tmp_path: Path) -> None:
    assert state.first_time()
    with Audit.open(make_audit(tmp_path, n=120), read_only=True) as audit:
        state.save(Session(audit))
    assert not state.first_time()


async def test_moved_images_are_explained_and_everything_else_works(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    async with at_desk(path) as desk:
        assert "not where the scan saw them" in desk.text
        assert "--source" in desk.text
        await desk.press("escape")
        sample = desk.sample
        await desk.do("keep")
        assert desk.audit.decision(sample) is not None


async def test_a_finished_audit_says_what_is_worth_doing(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        for _ in range(len(desk.session.queue)):
            await desk.do("keep")
        assert "Every flag is reviewed" in desk.status
        desk.review.open_class(None)
        await desk.pilot.pause()
        assert "[e] exports the corrected labels" in desk.text
        await desk.do("keep")
        assert desk.status == "no sample is open"
        await desk.do("neighbours", "sheet")
        assert desk.app.screen is desk.review
        await desk.do("undo")
        assert desk.session.sample is not None
