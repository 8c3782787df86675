"""Several reviewers: merged journals, agreement, dealt samples, Label Studio's annotations."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from labeltui import sharing
from labeltui.audit import Audit, Opinion, QueueSpec
from labeltui.audit.agreement import agreements, measure
from labeltui.check import check
from labeltui.cli import cli
from labeltui.cli.sharing import agreement_lines
from labeltui.errors import SourceError, UsageError
from labeltui.export import export
from tests.factories import make_audit


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of one audit."""
    first = make_audit(tmp_path, n=120, classes=3)
    shutil.copytree(first, tmp_path / "bob.audit")
    return first, tmp_path / "bob.audit"


def reviewed(first: Path, second: Path) -> list[int]:
    """Ada and Bob decide some samples; returns those of the queue."""
    with Audit.open(first, reviewer="ada") as audit:
        q = [int(i) for i in audit.queue(QueueSpec(flagged=None, order="index"))[:12]]
        new = [(int(audit.given[i]) + 1) % 3 for i in q]
        audit.decide([q[0]], "relabel", label=new[0])  # Bob agrees
        audit.decide([q[1]], "keep")  # Bob relabels: a conflict
        audit.decide([q[2]], "unsure")  # Bob is sure
        audit.decide([q[3]], "exclude")  # Bob skips
        audit.decide([q[4]], "relabel", label=new[4])  # Bob did not see it
        audit.note(q[6], "ada's note")
    with Audit.open(second, reviewer="bob") as audit:
        audit.decide([q[0]], "relabel", label=new[0])
        audit.decide([q[1]], "relabel", label=new[1], note="clearly")
        audit.decide([q[2]], "keep")
        audit.decide([q[3]], "skip")
        audit.decide([q[5]], "relabel", label=new[5], how="check")
        audit.note(q[6], "bob's note")
        audit.note(q[7], "odd")
    return q


def state(audit: Audit) -> list[tuple[object, ...]]:
    return [(audit.decision(i), audit.note_of(i)) for i in range(audit.n)]


def test_the_union_keeps_authors_and_times(pair: tuple[Path, Path], tmp_path: Path) -> None:
    q = reviewed(*pair)
    with Audit.open(pair[0]) as audit, Audit.open(pair[1], read_only=True) as other:
        before, theirs = state(audit), state(other)
    done = sharing.merge(pair, tmp_path / "both.audit")
    assert (done.taken, done.known, done.conflicts, done.elsewhere) == (3, 0, 1, 0)
    with Audit.open(pair[0]) as audit:
        assert state(audit) == before  # -o leaves both as they are
    with Audit.open(tmp_path / "both.audit", reviewer="cleo") as audit:
        merged = state(audit)
        for place, taken in enumerate([0, 0, 1, 0, 0, 1, 0, 1]):
            assert merged[q[place]] == (theirs if taken else before)[q[place]]
        assert audit.looked_at(q[5])
        assert list(audit.disagreements()) == [q[1]]
        (opinion,) = audit.disagreements()[q[1]]
        assert (opinion.reviewer, opinion.kind, opinion.note) == ("bob", "relabel", "clearly")
        assert audit.queue(QueueSpec(flagged=None, decided=None, disputed=True)).tolist() == [q[1]]
        audit.decide([q[1]], "keep")  # settled
        assert not audit.disagreements()
        audit.undo()
        assert list(audit.disagreements()) == [q[1]]
        audit.undo()
        assert state(audit) == before
        assert not audit.disagreements()
        audit.redo()
        assert state(audit) == merged
        summary = audit.summary()
        assert summary.reviewed == np.count_nonzero(audit.kinds) == 6
    assert check(tmp_path / "both.audit").whole
    with Audit.open(tmp_path / "both.audit") as audit:
        assert state(audit) == merged
        assert list(audit.disagreements()) == [q[1]]


def test_a_second_merge_brings_nothing_new(pair: tuple[Path, Path]) -> None:
    reviewed(*pair)
    first = sharing.merge(pair)
    with Audit.open(pair[0]) as audit:
        seq, merged = audit.journal_seq, state(audit)
    again = sharing.merge(pair)
    assert (again.taken, again.conflicts, again.agreement) == (0, 1, first.agreement)
    with Audit.open(pair[0]) as audit:
        assert (audit.journal_seq, state(audit)) == (seq, merged)


def test_the_order_of_a_merge_decides_conflicts_alone(pair: tuple[Path, Path], tmp_path: Path) -> None:
    q = reviewed(*pair)
    sharing.merge(pair, tmp_path / "ab.audit")
    sharing.merge(pair[::-1], tmp_path / "ba.audit")
    with Audit.open(tmp_path / "ab.audit") as ab, Audit.open(tmp_path / "ba.audit") as ba:
        assert np.flatnonzero(ab.current != ba.current).tolist() == [q[1]]
        assert list(ab.disagreements()) == list(ba.disagreements()) == [q[1]]
        assert {(o.sample, o.reviewer, o.kind, o.label) for o in ab.opinions()} == {
            (o.sample, o.reviewer, o.kind, o.label) for o in ba.opinions()
        }


def test_audits_of_another_scan_are_matched_by_name_and_content(tmp_path: Path) -> None:
    first = make_audit(tmp_path / "a", n=120, classes=3)
    other = make_audit(tmp_path / "b", n=240, classes=4)  # other images under some of the same names
    with Audit.open(other, reviewer="bob") as audit:
        audit.decide([0], "exclude")
    with pytest.raises(UsageError, match="same data"):
        sharing.merge([first, other])
    with pytest.raises(UsageError, match="different"):
        sharing.merge([first, first])


def test_every_reviewer_is_in_the_long_table(pair: tuple[Path, Path], tmp_path: Path) -> None:
    reviewed(*pair)
    sharing.merge(pair)
    with Audit.open(pair[0], read_only=True) as audit:
        export(audit, tmp_path / "long.csv", format="annotators")
    rows = [line.split(",") for line in (tmp_path / "long.csv").read_text().splitlines()[1:]]
    assert sum(row[1] == "bob" for row in rows) == sum(row[1] == "ada" for row in rows) == 5


def test_cohens_kappa_is_scikit_learns() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=300)
    table = np.stack([np.where(rng.random(300) < 0.8, truth, rng.integers(4, size=300)) for _ in range(2)], 1)
    found = measure(("a", "b"), table)
    assert found.kappa == pytest.approx(cohen_kappa_score(*table.T))
    assert found.low < found.kappa < found.high
    assert found.high - found.low == pytest.approx(4 * 0.033, rel=0.3)  # of about its standard error


def test_fleiss_kappa_is_the_published_one() -> None:
    # Wikipedia's worked example (10 subjects, 14 raters, 5 categories): 0.210.
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    table = np.array([np.repeat(np.arange(5), row) for row in counts])
    found = measure(tuple(f"r{number}" for number in range(14)), table)
    assert found.kappa == pytest.approx(0.210, abs=5e-4)
    assert found.name == "Fleiss' kappa"


def test_unsure_and_skip_are_no_decisions() -> None:
    said = [("a", 0, "keep", 1), ("b", 0, "unsure", 1), ("a", 1, "keep", 1), ("b", 1, "relabel", 1)]
    opinions = [Opinion(sample, who, kind, label, -1, None, "") for who, sample, kind, label in said]
    (found,) = agreements(opinions)
    assert (found.samples, found.observed) == (1, 1.0)
    assert np.isnan(found.kappa)


def test_no_figure_is_shown_where_agreement_has_none() -> None:
    def lines(*said: tuple[str, str]) -> list[str]:
        opinions = [
            Opinion(sample, who, "exclude" if kind == "exclude" else "keep", int(kind == "b"), -1, None, "")
            for sample, pair in enumerate(said)
            for who, kind in zip("xy", pair, strict=True)
        ]
        return agreement_lines(agreements(opinions))

    assert lines(("a", "b")) == [
        "x, y: Cohen's kappa needs more samples, the same in 0% of 1 samples that all of them decided"
    ]
    (same,) = lines(("a", "a"), ("a", "a"), ("a", "a"))
    assert "not defined" in same
    assert "the same in 100% of 3 samples" in same
    (known,) = lines(("a", "a"), ("b", "b"), ("a", "b"), ("b", "b"))
    assert re.search(r"Cohen's kappa 0\.50 \(-?\d\.\d\d\.\.\d\.\d\d, 95 %\)", known)


def test_samples_are_dealt_out_and_queues_keep_to_it(pair: tuple[Path, Path]) -> None:
    path, _ = pair
    with Audit.open(path, reviewer="ada") as audit:
        everything = audit.queue(QueueSpec(flagged=None))
        before = audit.queue(QueueSpec(flagged=None)).tolist()
        dealt = sharing.split(audit, ["ada", "bob", "cleo"], 0.1, everything=True)
        mine = audit.queue(QueueSpec(flagged=None)).tolist()
        assert len(mine) == dealt["ada"]
        assert audit.queue(QueueSpec(flagged=None, assigned=False)).tolist() == before
    queues = {}
    for name in ("ada", "bob", "cleo", "dora"):
        with Audit.open(path, reviewer=name) as audit:
            queues[name] = audit.queue(QueueSpec(flagged=None)).tolist()
    assert queues["ada"] == mine
    assert queues["dora"] == before
    three = [set(queues[name]) for name in ("ada", "bob", "cleo")]
    shared = set.intersection(*three)
    assert len(shared) == round(0.1 * len(everything))
    assert set.union(*three) == set(before)
    assert sum(map(len, three)) == len(before) + 2 * len(shared)
    with Audit.open(path, reviewer="ada") as audit:
        audit.undo()
        assert audit.queue(QueueSpec(flagged=None)).tolist() == before


@pytest.mark.parametrize("names", [["ada"], ["ada", "ada"], [], ["ada", ""]])
def test_a_split_needs_two_names(pair: tuple[Path, Path], names: list[str]) -> None:
    with Audit.open(pair[0]) as audit, pytest.raises(UsageError):
        sharing.split(audit, names)


def test_the_commands(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    q = reviewed(*pair)

    def run(*words: object) -> dict[str, object]:
        cli.main([*map(str, words), "--json"], standalone_mode=False)
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    assert run("split", pair[0], "--reviewers", 2, "--overlap", 0.5)["assigned"]
    made = run("merge", *pair, "-o", tmp_path / "c.audit")
    assert (made["taken"], made["conflicts"]) == (3, 1)
    said = run("agreement", tmp_path / "c.audit")
    with Audit.open(pair[0], read_only=True) as audit:
        assert said["conflicts"][0]["sample"] == audit.sample_name(q[1])  # type: ignore[index]
    assert said["agreement"] == made["agreement"]
    with pytest.raises(UsageError):
        cli.main(["merge", str(pair[0]), str(pair[1])], standalone_mode=False)


# Label Studio


def annotated(path: Path, file: Path) -> list[int]:
    """Tasks as the export makes them, annotated by three people."""
    with Audit.open(path, read_only=True) as audit:
        export(audit, file, format="label-studio")
        q = [int(i) for i in audit.queue()[:4]]
        given = [int(audit.given[i]) for i in q]
    tasks = json.loads(file.read_text())

    def choice(label: int, by: object, at: str, **more: object) -> dict[str, object]:
        result = {"type": "choices", "from_name": "label", "to_name": "image"}
        value = {"choices": [f"class{label}"]}
        return {"completed_by": by, "updated_at": at, "result": [{**result, "value": value}], **more}

    day = "2026-01-0{}T10:00:00.000000Z".format
    tasks[q[0]]["annotations"] = [choice(given[0], 7, day(1)), choice((given[0] + 1) % 3, 7, day(3))]
    tasks[q[1]]["annotations"] = [choice(given[1], {"email": "eve@lab.org", "id": 3}, day(2))]
    tasks[q[2]]["annotations"] = [choice(given[2], 7, day(2), was_cancelled=True)]
    del tasks[q[0]]["data"]["path"]  # found by its address
    file.write_text(json.dumps(tasks))
    return q


def test_annotations_come_back_with_their_authors(pair: tuple[Path, Path], tmp_path: Path) -> None:
    q = annotated(pair[0], tmp_path / "tasks.json")
    cli.main(
        ["import", str(pair[0]), str(tmp_path / "tasks.json"), "--reviewers", "7=bob"], standalone_mode=False
    )
    with Audit.open(pair[0]) as audit:
        first, second, third = (audit.decision(i) for i in q[:3])
        assert first is not None and second is not None and third is not None  # noqa: PT018
        assert (first.kind, first.reviewer, first.time[:10]) == ("relabel", "bob", "2026-01-03")
        assert first.label == (int(audit.given[q[0]]) + 1) % 3
        assert (second.kind, second.reviewer) == ("keep", "eve@lab.org")
        assert third.kind == "skip"
        assert audit.summary().reviewed == 3
        audit.undo()
        assert audit.summary().reviewed == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda task: task["annotations"][0]["result"][0]["value"].update(choices=["zebra"]),
        lambda task: task["data"].update(path="class0/nobody.png"),
        lambda task: task.update(data=3),
        lambda task: task["annotations"].append("no"),
    ],
)
def test_tasks_of_other_data_are_refused_whole(
    pair: tuple[Path, Path], tmp_path: Path, change: object
) -> None:
    q = annotated(pair[0], tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    change(tasks[q[1]])  # type: ignore[operator]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    with Audit.open(pair[0]) as audit, pytest.raises(SourceError) as error:
        sharing.read_annotations(audit, tmp_path / "tasks.json")
    assert f"task {q[1] + 1}" in error.value.got
