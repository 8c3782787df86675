"""The open audit: decisions and their undo, what follows from them, queues, evidence, generations."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labeltui import journal, paths, report, store
from labeltui.audit import CLASS_ORDERS, KINDS, Audit, QueueSpec, Vote, queue
from labeltui.audit import status as status_of
from labeltui.audit.duplicates import DuplicateGroups
from labeltui.csg import measure, pooled_counts
from labeltui.errors import AuditBusy, AuditError, DamagedAudit, InputError, MissingImage, NotAnAudit
from labeltui.io.h5_writer import write_h5
from labeltui.io.names import Names, pack_names
from labeltui.journal import columns
from labeltui.store import Store
from tests.factories import make_audit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_audit(tmp_path)


@pytest.fixture
def audit(path: Path) -> Iterator[Audit]:
    with Audit.open(path, reviewer="ada") as opened:
        yield opened


def graph(audit: Audit) -> np.ndarray:
    return np.asarray(audit._store.array(f"graph/{audit.embedding_name}/indices"))


def labels_in_s(audit: Audit) -> np.ndarray:
    return np.where(audit.excluded, -1, audit.current).astype(np.int32)


def state(audit: Audit) -> dict[str, object]:
    """Everything that decisions change, as one comparable value."""
    touched = np.flatnonzero(audit.touched).tolist()
    return {
        "current": audit.current.tolist(),
        "decisions": [audit.decision(i) for i in touched],
        "notes": [audit.note_of(i) for i in touched],
        "counts": audit.decisions(),
        "T": np.asarray(audit._complexity.T).tolist(),
        "rows": [(r.index, r.samples, r.flags, r.flagged, r.reviewed) for r in audit.class_rows("index")],
        "queue": audit.queue().tolist(),
    }


def check_against_rebuild(audit: Audit) -> None:
    """Compare every number that is kept up to date with the same number computed from nothing."""
    labels = labels_in_s(audit)
    T = pooled_counts(graph(audit), labels, audit.K, audit.csg_k)
    assert np.array_equal(audit._complexity.T, T)
    whole = measure(graph(audit), labels, audit.K, audit.csg_k)
    rows = audit.class_rows("index")
    assert [row.overlap for row in rows] == pytest.approx(whole.overlap.tolist(), rel=1e-6)
    assert [row.self_similarity for row in rows] == pytest.approx(whole.self_similarity.tolist(), abs=1e-9)
    assert audit.summary().csg == pytest.approx(whole.csg, rel=1e-9)
    kinds, flags = audit.kinds, audit.flags
    for row in rows:
        mine = audit.given == row.index
        assert row.samples == np.count_nonzero(labels == row.index)
        assert row.flagged == np.count_nonzero(mine & flags)
        assert row.flags == np.count_nonzero(mine & flags & (kinds == 0))
        assert row.reviewed == np.count_nonzero(mine & (kinds != 0))
    summary = audit.summary()
    assert summary.reviewed == np.count_nonzero(kinds)
    assert summary.flags == np.count_nonzero(flags & (kinds == 0))
    assert audit.decisions() == {kind: np.count_nonzero(kinds == KINDS.index(kind)) for kind in KINDS[1:]}


# deciding


def test_a_relabel_is_in_effect_at_once_and_on_disk_soon(audit: Audit) -> None:
    i = int(audit.queue()[0])
    label = audit.suggestions(i)[0][0]
    step = audit.decide([i], "relabel", label=label, note="sure")
    assert audit.current[i] == label != audit.given[i]
    found = audit.decision(i)
    assert found is not None
    assert (found.kind, found.label, found.second, found.note, found.reviewer) == (
        "relabel",
        label,
        -1,
        "sure",
        "ada",
    )
    assert i not in audit.queue()
    assert audit.flush(10)
    assert audit.saved_seq == step.seq == 1
    assert audit.summary().saved
    check_against_rebuild(audit)


def test_decisions_reach_across_sessions(path: Path) -> None:
    with Audit.open(path, reviewer="ada") as a:
        q = a.queue().tolist()
        a.decide(q[:3], "exclude")
        a.decide([q[3]], "ambiguous", second=2)
        a.note(q[4], "odd")
        a.decide([q[5]], "keep")
        a.undo()
        before = state(a)
    with Audit.open(path, reviewer="bob") as a:
        assert state(a) == before
        step = a.redo()
        assert step is not None
        assert (step.command, step.kind, step.samples.tolist()) == ("redo", "keep", [q[5]])
        assert a.redo() is None
        for kind, samples in (
            ("keep", [q[5]]),
            ("note", [q[4]]),
            ("ambiguous", [q[3]]),
            ("exclude", sorted(q[:3])),
        ):
            step = a.undo()
            assert step is not None
            assert (step.command, step.kind, sorted(step.samples.tolist())) == ("undo", kind, samples)
        assert a.undo() is None
        assert not a.touched.any()
        check_against_rebuild(a)
    with Audit.open(path, read_only=True) as a:
        assert not a.touched.any()


def test_one_bulk_is_one_action(audit: Audit) -> None:
    q = audit.queue()[:6]
    labels = audit.suggested[q, 0]
    audit.decide([*q.tolist(), int(q[0])], "relabel", label=[*labels.tolist(), int(labels[0])])
    assert audit.current[q].tolist() == labels.tolist()
    assert audit.journal_seq == 1
    step = audit.undo()
    assert step is not None
    assert sorted(step.samples.tolist()) == sorted(q.tolist())
    assert (audit.current == audit.given).all()


def test_a_relabel_with_the_given_label_is_a_keep(audit: Audit) -> None:
    same = np.flatnonzero(audit.given == 1)[:2]
    other = np.flatnonzero(audit.given == 2)[:1]
    step = audit.decide([*same, *other], "relabel", label=1)
    found = [audit.decision(int(i)) for i in [*same, *other]]
    assert [decision.kind for decision in found if decision] == ["keep", "keep", "relabel"]
    assert step.kind == "relabel"
    undone = audit.undo()
    assert undone is not None
    assert undone.kind == "relabel"


def test_deciding_again_replaces_and_undo_brings_back(audit: Audit) -> None:
    i = int(audit.queue()[0])
    other = (int(audit.given[i]) + 1) % audit.K
    audit.decide([i], "relabel", label=other, note="first")
    audit.decide([i], "exclude")
    decision = audit.decision(i)
    assert decision is not None
    assert (decision.kind, decision.label, decision.note) == ("exclude", audit.given[i], "first")
    check_against_rebuild(audit)
    audit.undo()
    decision = audit.decision(i)
    assert decision is not None
    assert (decision.kind, decision.label) == ("relabel", other)
    check_against_rebuild(audit)


def test_a_note_decides_nothing(audit: Audit) -> None:
    i, j = audit.queue()[:2].tolist()
    audit.note(i, "hm")
    assert audit.decision(i) is None
    assert audit.note_of(i) == "hm"
    assert i in audit.queue()
    audit.decide([j], "keep")
    first = audit.decision(j)
    audit.note(j, "later")
    again = audit.decision(j)
    assert first is not None
    assert again is not None
    assert (again.kind, again.note, again.time) == ("keep", "later", first.time)
    audit.note(j, "")
    assert audit.note_of(j) is None
    assert audit.decisions()["keep"] == 1


actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("decide"),
            st.lists(st.integers(0, 119), min_size=1, max_size=8),
            st.sampled_from(KINDS[1:]),
            st.integers(0, 3),
            st.sampled_from([None, "a", ""]),
        ),
        st.tuples(st.just("note"), st.integers(0, 119), st.sampled_from(["b", ""])),
        st.tuples(st.sampled_from(["undo", "redo"])),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plain")
    return make_audit(directory, n=120, images=False)


def test_any_sequence_can_be_undone_and_reopened(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "BLOCK", 3)  # journals of several blocks
    target = tmp_path / "a.audit"

    @settings(max_examples=15, deadline=None)
    @given(actions)
    def check(sequence: list[tuple]) -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(plain, target)
        with Audit.open(target) as a:
            done, undone = [state(a)], []
            for command, *rest in sequence:
                if command == "decide":
                    samples, kind, label, note = rest
                    second = label if kind == "ambiguous" else None
                    a.decide(samples, kind, label if kind == "relabel" else None, second, note)
                    done.append(state(a))
                    undone.clear()
                elif command == "note":
                    a.note(*rest)
                    done.append(state(a))
                    undone.clear()
                elif command == "undo":
                    step = a.undo()
                    assert (step is None) == (len(done) == 1)
                    if step is not None:
                        undone.append(done.pop())
                else:
                    step = a.redo()
                    assert (step is None) == (not undone)
                    if step is not None:
                        done.append(undone.pop())
                assert state(a) == done[-1]
            check_against_rebuild(a)
        with Audit.open(target) as a:
            assert state(a) == done[-1]
            if undone:
                a.redo()
                done.append(undone.pop())
                assert state(a) == done[-1]
            while a.undo() is not None:
                done.pop()
                assert state(a) == done[-1]
            assert len(done) == 1
            T = pooled_counts(graph(a), a.given, a.K, a.csg_k)
            assert np.array_equal(a._complexity.T, T)

    check()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([240], "keep"), "samples are 0..239"),
        (([-1], "keep"), "samples are 0..239"),
        (([], "keep"), "list of sample indices"),
        (([0.5], "keep"), "list of sample indices"),
        (([0], "delete"), "a decision is one of"),
        (([0], ""), "a decision is one of"),
        (([0], "relabel"), "a label goes with relabel"),
        (([0], "keep", 1), "a label goes with relabel"),
        (([0], "relabel", 4), "classes are 0..3"),
        (([0], "relabel", -1), "classes are 0..3"),
        (([0, 1], "relabel", [1, 2, 3]), "one for each sample"),
        (([0], "keep", None, 1), "a second label"),
        (([0], "ambiguous", None, 4), "a second label"),
    ],
)
def test_what_is_invalid_changes_nothing(audit: Audit, arguments: tuple, message: str) -> None:
    before = state(audit)
    with pytest.raises(InputError, match=message):
        audit.decide(*arguments)
    assert state(audit) == before
    assert audit.journal_seq == 0


# opening


def test_a_second_review_is_refused_and_reading_is_not(audit: Audit) -> None:
    with pytest.raises(AuditBusy, match="ada"):
        Audit.open(audit.path)
    i = int(audit.queue()[0])
    with Audit.open(audit.path, read_only=True) as reader:
        with pytest.raises(AuditError, match="read-only"):
            reader.decide([i], "keep")
        assert reader.decision(i) is None
        audit.decide([i], "exclude")
        audit.flush()
        assert reader.refresh() is None  # no new scores; but it saw the decision
        assert reader.decision(i) == audit.decision(i)
        assert state(reader) == state(audit)
        audit.undo()
        audit.flush()
        reader.refresh()
        assert state(reader) == state(audit)


def test_what_is_no_audit(tmp_path: Path, path: Path) -> None:
    with pytest.raises(NotAnAudit):
        Audit.open(tmp_path / "missing")
    (path / "journal.db").unlink()
    with pytest.raises(NotAnAudit, match=r"journal\.db"):
        Audit.open(path)
    journal.create(path, "of another audit")
    with pytest.raises(DamagedAudit, match="belongs to"):
        Audit.open(path)
    assert not (path / "journal.lock").read_bytes()


def test_a_journal_with_a_foreign_class_is_named(path: Path) -> None:
    with store.Store.open(path) as s:
        uuid, name = s.uuid, s.ids[0]
    with journal.Journal.open(path, uuid) as j:
        j.append("decide", [(0, name, "relabel", b"class0", b"a\x1bclass", None, None)])
    with pytest.raises(DamagedAudit, match=r"class a\\x1bclass"):
        Audit.open(path)


def test_the_sample_id_of_a_decision_counts_not_its_index(path: Path) -> None:
    with store.Store.open(path) as s:
        uuid, name = s.uuid, s.ids[7]
    with journal.Journal.open(path, uuid) as j:
        j.append("decide", [(3, name, "exclude", b"class0", b"class0", None, None)])
        j.append("decide", [(10**9, name, "keep", b"class0", b"class0", None, None)])
    with Audit.open(path, read_only=True) as audit:
        assert audit.decision(3) is None
        decision = audit.decision(7)
        assert decision is not None
        assert decision.kind == "keep"
    with journal.Journal.open(path, uuid) as j:
        j.append("decide", [(5, b"of another data set", "keep", b"class0", b"class0", None, None)])
    with pytest.raises(DamagedAudit, match="1 are on others, the first on of another data set"):
        Audit.open(path, read_only=True)


def test_importing_the_audit_is_light() -> None:
    code = (
        "import sys; import labeltui.audit, labeltui.export;"
        "print([m for m in ('torch', 'textual', 'sklearn', 'scipy.sparse', 'PIL.Image') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "[]\n"


# looking


def test_queue_orders(audit: Audit) -> None:
    flagged = np.flatnonzero(audit.flags)
    scores = audit.scores

    def queue(order: str, **more: object) -> list[int]:
        return audit.queue(QueueSpec(order=order, **more)).tolist()

    assert queue("score") == sorted(flagged.tolist(), key=lambda i: (scores[i], i))
    assert queue("index") == flagged.tolist()
    assert queue("uncertainty") == sorted(
        flagged.tolist(), key=lambda i: (abs(scores[i] - np.float32(0.5)), i)
    )
    falls = Store.open(audit.path).array("scores/csg")
    assert queue("drop") == sorted(flagged.tolist(), key=lambda i: (falls[i], i)) != queue("score")
    shuffled = queue("random", seed=3)
    assert sorted(shuffled) == flagged.tolist()
    assert shuffled == queue("random", seed=3) != queue("random", seed=4)
    one = queue("random", seed=3, given=1)
    assert one == [i for i in shuffled if audit.given[i] == 1]  # stable under filters
    everything = queue("score", flagged=None)
    assert everything == sorted(range(audit.n), key=lambda i: (scores[i], i))
    assert queue("score", flagged=False) == [i for i in everything if not audit.flags[i]]
    with pytest.raises(InputError):
        queue("alphabet")


def test_queue_filters(audit: Audit) -> None:
    q = audit.queue().tolist()
    audit.decide(q[:2], "keep")
    audit.decide([q[2]], "skip")
    top = audit.suggested[:, 0]

    def queue(**filters: object) -> set[int]:
        return set(audit.queue(QueueSpec(**filters)).tolist())

    left = set(q[3:])
    assert queue() == left
    for a in range(audit.K):
        assert queue(given=a) == {i for i in left if audit.given[i] == a}
        assert queue(suggested=a) == {i for i in left if top[i] == a}
        assert queue(given=0, suggested=a) == {i for i in left if audit.given[i] == 0 and top[i] == a}
        assert queue(given=a, flagged=None) == {
            i for i in np.flatnonzero(audit.given == a).tolist() if not audit.kinds[i]
        }
    assert queue(given=99) == set()
    assert queue(decided=True) == set(q[:3])
    assert queue(decided=None) == set(q)
    assert queue(decision="skip") == {q[2]}
    assert queue(score_below=0.1) == {i for i in left if audit.score(i) < 0.1}
    scores = audit._queues.scores("neighbours")
    found = audit.queue(QueueSpec(detector="neighbours", score_below=0.3)).tolist()
    assert found == sorted((i for i in left if scores[i] < np.float32(0.3)), key=lambda i: (scores[i], i))
    assert queue(split=0) == set()
    with pytest.raises(InputError, match="blend"):
        queue(detector="oracle")
    with pytest.raises(InputError):
        queue(decision="maybe")


@pytest.mark.parametrize("text", ["class1/", "CLASS1/0001", "7.png", "png", "nowhere", "png" + "class"])
def test_text_search_is_the_same_in_small_and_large_queues(audit: Audit, text: str) -> None:

    names = [audit.sample_id(i) for i in range(audit.n)]
    expected = [text.lower().encode() in name.lower() for name in names]
    everyone = np.arange(audit.n)
    small = queue.contains(audit._store.ids, everyone, text)
    assert small.tolist() == expected
    block, least = queue._TEXT_BLOCK, queue._SCAN_FROM
    try:
        queue._SCAN_FROM = 1
        for queue._TEXT_BLOCK in (1, 37, 1 << 20):
            assert queue.contains(audit._store.ids, everyone, text).tolist() == expected
    finally:
        queue._TEXT_BLOCK, queue._SCAN_FROM = block, least


def test_a_path_is_found_in_any_unicode_form() -> None:
    names = [unicodedata.normalize(form, "ca/fé.png").encode() for form in ("NFC", "NFD")] + [b"ca/fe.png"]
    arrays = pack_names("id", names)
    packed = Names(arrays["id"], arrays["id_offsets"])
    for form in ("NFC", "NFD"):
        found = queue.contains(packed, np.arange(3), unicodedata.normalize(form, "fé"))
        assert found.tolist() == [True, True, False]


def test_class_orders(audit: Audit) -> None:
    for order in CLASS_ORDERS:
        rows = audit.class_rows(order)
        keys = [getattr(row, order) for row in rows]
        assert keys == sorted(keys, reverse=order not in ("name", "index"))
    with pytest.raises(InputError):
        audit.class_rows("beauty")


def test_pairs(audit: Audit) -> None:
    W, S = audit.matrix(), audit.matrix("directed")
    pairs = audit.pairs()
    assert [p.W for p in pairs] == sorted((p.W for p in pairs), reverse=True)
    assert {(p.a, p.b) for p in pairs} == {(a, b) for a in range(4) for b in range(a + 1, 4) if W[a, b] > 0}
    assert all((p.W, p.S_ab, p.S_ba) == (W[p.a, p.b], S[p.a, p.b], S[p.b, p.a]) for p in pairs)
    directed = audit.pairs("directed")
    assert [p.S_ab for p in directed] == sorted((p.S_ab for p in directed), reverse=True)
    assert audit.pairs("directed", 3) == directed[:3]
    assert audit.pairs(limit=0) == []
    with pytest.raises(InputError):
        audit.pairs("alphabet")


def test_evidence_speaks_of_the_labels_now(audit: Audit) -> None:
    i = int(audit.queue()[0])
    given, top = int(audit.given[i]), audit.suggestions(i)[0][0]
    found = audit.evidence(i)
    near = graph(audit)[i][: audit.csg_k]
    assert [n.index for n in found.neighbours] == near.tolist()
    assert [n.label for n in found.neighbours] == audit.current[near].tolist()
    assert found.same_label_share == np.mean(audit.current[near] == given)
    whole = measure(graph(audit), audit.current, audit.K, audit.csg_k)
    assert found.pair_overlap == pytest.approx(whole.W[given, top])
    assert found.pair_share == pytest.approx(whole.S[given, top])
    assert found.votes[-1] == Vote("blend", top, audit.score(i))
    assert {vote.detector for vote in found.votes} >= {"neighbours", "head", "blend"}
    assert any(f"neighbours are {audit.names[top]}" in line for line in found.lines)
    duplicates = next(vote for vote in found.votes if vote.detector == "duplicates")
    assert duplicates.score is None  # nothing is a duplicate of it, so there is no evidence
    proposals = {vote.detector: vote.proposes for vote in found.votes}
    assert proposals["nearest"] == np.bincount(audit.current[near]).argmax()
    assert proposals["neighbours"] == top
    assert list(audit.detectors()) == [vote.detector for vote in found.votes]
    # A neighbour's relabel is seen at once.
    other = int(near[0])
    new = (int(audit.current[other]) + 1) % audit.K
    audit.decide([other], "relabel", label=new)
    again = audit.evidence(i)
    assert (again.neighbours[0].label, again.neighbours[0].given) == (new, audit.given[other])
    whole = measure(graph(audit), audit.current, audit.K, audit.csg_k)
    assert again.pair_overlap == pytest.approx(whole.W[given, top])
    assert again.pair_share == pytest.approx(whole.S[given, top])


def test_summary_and_status(audit: Audit) -> None:
    q = audit.queue().tolist()
    audit.decide(q[:2], "keep")
    audit.decide([q[2]], "exclude")
    summary = audit.summary()
    assert (summary.samples, summary.classes, summary.reviewed, summary.relabelled) == (240, 4, 3, 0)
    assert summary.flagged == len(q)
    assert summary.flags == len(q) - 3
    assert summary.interval is None or summary.interval[0] < summary.interval[1]
    status = status_of(audit, [{"id": "x", "state": "done"}])
    json.dumps(status)
    assert set(status) == {
        *(
            "audit",
            "format",
            "samples",
            "not_ok",
            "classes",
            "csg",
            "graph",
            "flags",
            "decisions",
            "calibration",
            "smoke_test",
            "synthetic",
            "changed_files",
            "generation",
            "jobs",
        ),
        "next",
    }
    assert set(status["classes"][0]) == {
        "id",
        "name",
        "samples",
        "flags",
        "overlap",
        "self_similarity",
        "reviewed",
    }
    assert set(status["csg"]) == {"value", "k", "embedding", "trace", "partial"}
    assert status["csg"]["partial"] is None
    assert status["csg"]["trace"] == pytest.approx(
        measure(graph(audit), labels_in_s(audit), audit.K, audit.csg_k).trace
    )
    assert status["flags"] == sum(row["flags"] for row in status["classes"]) == len(q)
    assert status["decisions"] == dict.fromkeys(KINDS[1:], 0) | {"keep": 2, "exclude": 1}
    assert status["not_ok"] == {"unreadable": 0, "non_finite": 0, "zero": 0}
    assert status["jobs"] == [{"id": "x", "state": "done"}]
    assert status["csg"]["value"] == pytest.approx(
        measure(graph(audit), labels_in_s(audit), audit.K, audit.csg_k).csg, abs=1e-6
    )
    assert str(audit.path) in status["next"]


def test_what_if_tells_what_deciding_does(audit: Audit) -> None:
    q = audit.queue()[:7]
    before = state(audit)
    overlap = {row.index: row.overlap for row in audit.class_rows()}
    for kind, label in (
        ("exclude", None),
        ("relabel", 2),
        ("relabel", audit.suggested[q, 0]),
        ("keep", None),
    ):
        told = audit.what_if(q, kind, label)
        assert state(audit) == before
        audit.decide(q, kind, label)
        assert audit.summary().csg == pytest.approx(told.csg_after, abs=1e-6)
        now = {row.index: row.overlap for row in audit.class_rows()}
        assert [now[c] - overlap[c] for c in range(audit.K)] == pytest.approx(
            told.d_overlap.tolist(), abs=1e-6
        )
        assert sum(now.values()) / audit.K == pytest.approx(told.trace_after, abs=1e-6)
        assert sum(overlap.values()) / audit.K == pytest.approx(told.trace_before, abs=1e-6)
        assert sum(count for _, count in told.by_given) == told.samples == len(q)
        audit.undo()


def test_images(audit: Audit, tmp_path: Path) -> None:
    data = audit.images.read(5)
    assert isinstance(data, bytes)
    assert data == (tmp_path / "data" / audit.sample_name(5)).read_bytes()
    image = audit.images.image(5)
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(MissingImage):
        audit.images.image(5)
    audit.move_source(tmp_path / "moved")
    assert audit.images.read(5) == data
    with Audit.open(audit.path, read_only=True, source_root=tmp_path / "moved") as other:
        assert other.images.read(5) == data


def test_an_audit_without_images_says_so(plain: Path) -> None:
    with Audit.open(plain, read_only=True) as a, pytest.raises(MissingImage):
        a.images.image(0)


# generations


def add_run(
    audit: Audit, name: str, scores: np.ndarray, top: np.ndarray, seq: int = 0, rate: float = 0.0
) -> Path:
    """A finished training run that gives each sample a score and a first suggestion."""
    run = audit.path / "runs" / name
    run.mkdir(parents=True)
    (run / "spec.json").write_text(json.dumps({"journal_seq": seq}))
    label = np.full((audit.n, 5), -1, np.int32)
    label[:, 0] = top
    chance = np.zeros((audit.n, 5), np.float32)
    chance[:, 0] = 1 - scores
    arrays = {"scores/blend": scores.astype(np.float32), "suggest/label": label, "suggest/p": chance}
    attrs = {"": store.generation_attrs(audit.uuid, run=name), "scores/blend": {"error_rate": rate}}
    write_h5(run / "result.h5", arrays, attrs)
    return run


def test_a_run_that_moves_the_flags_many_times_says_so_and_why(path: Path) -> None:
    with Audit.open(path) as a:
        scores, few, many = np.full(a.n, 0.4), a.given.copy(), a.given.copy()
        few[:2] = (few[:2] + 1) % a.K
        many[:30] = (many[:30] + 1) % a.K
        add_run(a, "20261120T140000Z-aaaa", scores, few, rate=0.02)
        a.refresh()
        a.decide([40, 41, 42], "relabel", label=(a.given[40:43] + 1) % a.K, how="bulk")
        add_run(a, "20261120T150000Z-bbbb", scores, many, rate=0.3)
        change = a.refresh()
        assert change is not None
        assert change.reason == (
            "15.0 times more flags (2, now 30): about 30.0% of the labels now seem wrong, 2.0% did before; "
            "3 labels were changed in bulk or by a program, which nobody looked at one by one"
        )
        add_run(a, "20261120T160000Z-cccc", scores, many, rate=0.5)
        change = a.refresh()
        assert change is not None
        assert change.reason == ""  # the flags stayed


def test_a_finished_run_re_ranks_and_keeps_decisions(path: Path) -> None:
    rng = np.random.default_rng(1)
    with Audit.open(path) as a:
        assert a.refresh() is None
        q = a.queue().tolist()
        a.decide([q[0]], "exclude")
        a.decide([q[1]], "relabel", label=(int(a.given[q[1]]) + 1) % a.K)
        before, old_flags = state(a), a.flags.copy()
        scores = rng.random(a.n).astype(np.float32)
        top = np.where(rng.random(a.n) < 0.3, (a.given + 1) % a.K, a.given).astype(np.int32)
        add_run(a, "20261120T140000Z-aaaa", scores, top, seq=a.journal_seq)
        (a.path / "runs" / "20261120T150000Z-bbbb").mkdir()  # still at work
        assert a.prepare() == 1
        assert state(a) == before  # nothing is shown before it is asked for
        change = a.refresh()
        assert change is not None
        assert (change.generation, change.run) == (1, "20261120T140000Z-aaaa")
        undecided = a.kinds == 0
        new_flags = top != a.given
        assert np.array_equal(a.flags, new_flags)
        assert change.new_flags == np.count_nonzero(new_flags & ~old_flags & undecided) > 0
        assert change.cleared_flags == np.count_nonzero(old_flags & ~new_flags & undecided) > 0
        assert a.queue().tolist() == sorted(
            np.flatnonzero(new_flags & undecided).tolist(), key=lambda i: (scores[i], i)
        )
        after = state(a)
        assert after["current"] == before["current"]
        assert after["decisions"] == before["decisions"]
        assert after["T"] == before["T"]
        check_against_rebuild(a)
        assert a.refresh() is None
        assert a.undo() is not None  # the generation is nothing to undo
        assert a.redo() is not None
    with Audit.open(path) as a:
        assert a.generation == 1
        assert state(a) == after
        assert a.refresh() is None


def test_adoption_after_a_crash_makes_no_second_generation(path: Path) -> None:
    with Audit.open(path) as a:
        run = add_run(a, "20261120T140000Z-aaaa", np.zeros(a.n), a.given)
        a._store.adopt(run / "result.h5")  # copied, and then it died
    with Audit.open(path) as a:
        assert a.generation == 0
        change = a.refresh()
        assert change is not None
        assert change.generation == 1
        assert a._store.generations() == [0, 1]


def test_old_generations_are_deleted_and_their_runs_not_adopted_again(path: Path) -> None:
    with Audit.open(path) as a:
        for number in range(1, 6):
            add_run(a, f"2026112{number}T140000Z-aaaa", np.full(a.n, number / 10), a.given)
            change = a.refresh()
            assert change is not None
            assert change.generation == number
        assert a._store.generations() == [0, 3, 4, 5]
        assert a.refresh() is None
    with Audit.open(path) as a:
        assert a.generation == 5
        assert a.refresh() is None
        assert a.score(0) == pytest.approx(0.5)


def test_two_runs_at_once_show_the_newer(path: Path) -> None:
    with Audit.open(path) as a:
        other = ((a.given + 1) % a.K).astype(np.int32)
        add_run(a, "20261120T150000Z-bbbb", np.full(a.n, 0.1), other)
        add_run(a, "20261120T140000Z-aaaa", np.full(a.n, 0.9), a.given)
        change = a.refresh()
        assert change is not None
        assert (change.generation, change.run) == (2, "20261120T150000Z-bbbb")
        assert a.flags.all()
        with Audit.open(path, read_only=True) as reader:
            a.flush()
            assert reader.refresh() is not None or reader.generation == 2
            assert reader.flags.all()
    (path / "derived" / "2.h5").unlink()  # a copy that lost its newest file still opens, with older scores
    with Audit.open(path, read_only=True) as a:
        assert a.generation == 1


def test_a_reader_follows_generations_that_are_replaced_while_it_looks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_at, numbers = store.Store.at, iter(range(1, 100))

    def adopt(writer: Audit) -> None:
        for number in (next(numbers) for _ in range(3)):
            add_run(writer, f"20261120T{number:06d}Z-aaaa", np.full(writer.n, number / 100), writer.given)
            assert writer.refresh() is not None
        assert writer.flush(10)

    with Audit.open(path) as writer:
        adopt(writer)

        def at(self: store.Store, number: int) -> store.Store:
            monkeypatch.setattr(store.Store, "at", open_at)
            adopt(writer)  # meanwhile three newer ones came, and the one asked for was deleted
            return open_at(self, number)

        monkeypatch.setattr(store.Store, "at", at)
        with Audit.open(path, read_only=True) as reader:
            assert reader.score(0) == pytest.approx(0.06)
            adopt(writer)
            monkeypatch.setattr(store.Store, "at", at)
            assert reader.refresh() is None
            assert reader.score(0) == pytest.approx(0.06)  # what was shown stays whole
            change = reader.refresh()
            assert change is not None
            assert reader.score(0) == pytest.approx(0.12)


def test_a_damaged_result_is_refused_and_nothing_changes(path: Path) -> None:
    with Audit.open(path) as a:
        run = add_run(a, "20261120T140000Z-aaaa", np.zeros(a.n), a.given)
        data = (run / "result.h5").read_bytes()
        (run / "result.h5").write_bytes(data[: len(data) // 2])
        with pytest.raises(DamagedAudit):
            a.refresh()
        assert a.generation == 0
        assert a.journal_seq == 0
        assert a.refresh() is None  # said once
        add_run(a, "20261120T130000Z-good", np.full(a.n, 0.25), a.given)
        assert a.refresh() is not None
        assert a.score(0) == 0.25


def test_relabels_since_the_newest_run(path: Path) -> None:
    with Audit.open(path) as a:
        q = a.queue().tolist()
        new = [(int(a.given[i]) + 1) % a.K for i in q]
        a.decide([q[3]], "keep")
        a.decide(q[:3], "relabel", label=new[:3])
        assert a.relabels_after(a.newest_run_seq()) == 3
        add_run(a, "20261120T140000Z-aaaa", np.zeros(a.n), a.given, seq=a.journal_seq)
        assert a.relabels_after(a.newest_run_seq()) == 0
        a.decide([q[4]], "relabel", label=new[4])
        a.decide(
            [q[0]], "relabel", label=(new[0] + 1) % a.K if (new[0] + 1) % a.K != a.given[q[0]] else new[0]
        )
        assert a.relabels_after(a.newest_run_seq()) == 2
        a.undo()
        assert a.relabels_after(a.newest_run_seq()) == 1


def test_training_labels(audit: Audit) -> None:
    q = audit.queue().tolist()
    audit.decide([q[0]], "exclude")
    audit.decide([q[1]], "relabel", label=(int(audit.given[q[1]]) + 1) % audit.K)
    expected = audit.current.copy()
    expected[q[0]] = -1
    assert np.array_equal(audit.training_labels(), expected)


# many classes, and samples that are out of the graph


def write_wide(path: Path, n: int = 4000, classes: int = 300, seed: int = 0) -> None:
    """An audit of many classes over a made-up graph, with some samples unlabelled and some not ok."""
    rng = np.random.default_rng(seed)
    k = 10
    given = rng.integers(0, classes, n).astype(np.int32)
    given[:20] = -1
    status = np.zeros(n, np.uint8)
    status[20:25] = paths.UNREADABLE
    ok = np.flatnonzero(status == 0)
    indices = np.full((n, k), -1, np.int32)
    for i in ok:
        near = rng.choice(ok, k + 1, replace=False)
        indices[i] = near[near != i][:k]
    flat = indices[ok].ravel()
    order = np.argsort(flat, kind="stable")
    counted = np.bincount(flat, minlength=n)
    suggest = np.tile(np.arange(5, dtype=np.int32), (n, 1))
    suggest[:, 0] = np.where(rng.random(n) < 0.2, (given + 1) % classes, np.maximum(given, 0))
    groups = np.arange(n, dtype=np.int32)
    groups[100:103] = 100
    groups[200:202] = 200
    given[200:202] = 7
    given[100:103] = (1, 2, 1)
    found = measure(indices, given, classes, k)
    arrays = {
        **pack_names("samples/id", (b"s%d" % i for i in range(n))),
        **pack_names("classes/id", (b"c%d" % i for i in range(classes))),
        **pack_names("classes/name", (b"class %d\x1b[2J" % i for i in range(classes))),
        **pack_names("splits/name", [b"train", b"test"]),
        "samples/split": (np.arange(n) % 2).astype(np.int16),
        "samples/sha256": np.zeros((n, 32), np.uint8),
        "samples/status": status,
        "labels/given": given,
        "embeddings/e": np.ones((n, 2), np.float32),
        "graph/e/indices": indices,
        "graph/e/similarity": np.zeros((n, k), np.float32),
        "graph/e/rev_indptr": np.concatenate([[0], np.cumsum(counted)]).astype(np.int64),
        "graph/e/rev_indices": ok[order // k].astype(np.int32),
        "groups/duplicate": groups,
        "csg/T": pooled_counts(indices, given, classes, k),
        "csg/overlap": found.overlap,
        "csg/self_similarity": found.self_similarity,
        "csg/interval": np.array([found.csg - 1, found.csg + 1]),
        "scores/blend": rng.random(n).astype(np.float32),
        "suggest/label": suggest,
        "suggest/p": np.full((n, 5), 0.2, np.float32),
    }
    attrs = {
        "": store.audit_attrs(),
        "embeddings": {"default": "e"},
        "graph/e": {"csg_k": k, "k": k},
        "csg": {"csg": found.csg, "k": k},
    }
    path.mkdir()
    write_h5(path / paths.AUDIT_FILE, arrays, attrs)
    with store.Store.open(path) as opened:
        journal.create(path, opened.uuid)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "wide.audit"
    write_wide(path)
    return path


@pytest.fixture
def wide_audit(wide: Path, tmp_path: Path) -> Iterator[Audit]:
    shutil.copytree(wide, tmp_path / "w.audit")
    with Audit.open(tmp_path / "w.audit") as opened:
        yield opened


def test_many_classes_show_the_last_csg_until_it_is_solved_anew(wide_audit: Audit) -> None:
    a = wide_audit
    start = a.summary()
    assert not start.csg_stale
    assert start.interval is not None
    a.decide(a.queue()[:10], "relabel", label=5)
    summary = a.summary()
    assert summary.csg_stale
    assert summary.csg == start.csg
    solved: list[float] = []
    worker = threading.Thread(target=lambda: solved.append(a.solve_csg()))
    worker.start()
    a.decide(a.queue()[:1], "relabel", label=5)  # goes on meanwhile
    worker.join()
    assert solved[0] == a.summary().csg != start.csg
    a.solve_csg()
    summary = a.summary()
    assert not summary.csg_stale
    assert summary.csg is not None
    assert start.csg is not None
    assert summary.interval == pytest.approx((summary.csg - 1, summary.csg + 1))
    check_against_rebuild(a)


def test_large_bulks_and_their_undo_are_exact(wide_audit: Audit) -> None:
    a = wide_audit
    a.warm()
    before = state(a)
    rng = np.random.default_rng(5)
    samples = rng.choice(a.n, 1500, replace=False)
    a.decide(samples, "relabel", label=rng.integers(0, a.K, 1500))
    a.solve_csg()
    check_against_rebuild(a)
    a.decide(samples[:700], "exclude")
    a.solve_csg()
    check_against_rebuild(a)
    a.undo()
    a.undo()
    a.solve_csg()
    check_against_rebuild(a)
    assert state(a) == before


def test_reopening_with_many_classes_follows_the_decisions(wide: Path, tmp_path: Path) -> None:
    shutil.copytree(wide, tmp_path / "w.audit")
    with Audit.open(tmp_path / "w.audit") as a:
        a.decide(a.queue()[:40], "relabel", label=9)
        before = state(a)
    with Audit.open(tmp_path / "w.audit") as a:
        assert state(a) == before
        assert a.summary().csg_stale
        assert status_of(a)["csg"]["value"] == pytest.approx(
            measure(graph(a), labels_in_s(a), a.K, a.csg_k).csg, abs=1e-6
        )


def test_samples_without_label_or_neighbours_are_never_flagged(wide_audit: Audit) -> None:
    a = wide_audit
    assert not a.flags[:25].any()
    assert a.flags[25:].any()
    assert a.not_ok() == {"unreadable": 5, "non_finite": 0, "zero": 0}
    assert a.fault(20) == "unreadable"
    assert a.evidence(20).neighbours == []
    # An unlabelled sample can be given a label, and takes part from then on.
    assert a.evidence(3).same_label_share is None
    a.decide([3, 21], "relabel", label=5)
    assert a.current[3] == 5
    a.solve_csg()
    check_against_rebuild(a)
    assert a.training_labels()[[3, 21]].tolist() == [5, -1]
    a.decide([4], "exclude")
    a.solve_csg()
    check_against_rebuild(a)
    unlabelled = a.queue(QueueSpec(flagged=None, given=-1, order="index")).tolist()
    assert unlabelled == [i for i in range(20) if i not in (3, 4)]


def test_copies_whose_values_disagree() -> None:
    groups = np.array([0, 1, 0, 2, 1, 3, 2, 0], np.int32)
    labels = np.array([5, 1, 5, 2, 3, 0, -1, 4], np.int32)
    split = np.array([0, 0, 0, 0, 0, 1, 1, 0], np.int16)
    copies = DuplicateGroups(groups)
    before = [copies.of(i).tolist() for i in range(8)]
    assert [part.tolist() for part in copies.groups()] == [[0, 2, 7], [1, 4], [3, 6]]
    assert [copies.of(i).tolist() for i in range(8)] == before  # looked up, and searched for
    assert before[7] == [0, 2, 7]
    assert before[5] == [5]
    assert [part.tolist() for part in copies.disagreeing(labels)] == [[0, 2, 7], [1, 4]]
    assert [part.tolist() for part in copies.disagreeing(split)] == [[3, 6]]
    assert DuplicateGroups(np.arange(4)).groups() == []
    assert DuplicateGroups(np.empty(0, np.int32)).groups() == []


def test_label_conflicts_between_duplicates(wide_audit: Audit) -> None:
    a = wide_audit
    assert [group.tolist() for group in a.conflicts()] == [[100, 101, 102]]
    assert a.evidence(100).group == [101, 102]
    assert any("2 more duplicates" in line for line in a.evidence(100).lines)
    a.decide([101], "exclude")
    assert a.conflicts() == []
    a.decide([200], "relabel", label=3)
    assert [group.tolist() for group in a.conflicts()] == [[200, 201]]


def test_names_from_data_are_made_safe(wide_audit: Audit) -> None:
    a = wide_audit
    assert a.names[3] == "class 3\\x1b[2J"
    everything = json.dumps(status_of(a)) + " ".join(line for i in range(30) for line in a.evidence(i).lines)
    assert "\x1b" not in everything
    assert a.split_of(1) == "test"
    assert (a.queue(QueueSpec(split=1, flagged=None)) % 2 == 1).all()


def test_calibration_is_reported_against_decisions(audit: Audit) -> None:
    truth = np.load(audit.path.parent / "truth.npy")
    begin = status_of(audit)["calibration"]
    assert begin["decided"] == begin["fitted_on"] == 0
    assert begin["bins"] == []
    told = begin["wrong_labels"]
    assert told["of"] == np.count_nonzero(audit.scorable)
    assert told["expected"] == pytest.approx((1 - audit.scores[audit.scorable]).sum(), abs=0.06)
    assert (told["low"], told["checks"]) == (0, 0)
    assert told["high"] >= told["expected"]
    looked_at = np.random.default_rng(0).choice(audit.n, 70, replace=False)
    for i in looked_at.tolist():
        if audit.given[i] == truth[i]:
            audit.decide([i], "keep")
        else:
            audit.decide([i], "relabel", int(truth[i]))
    told = status_of(audit)["calibration"]
    assert told["decided"] == sum(each["decided"] for each in told["bins"]) == 70
    assert len(told["bins"]) == 2
    order = looked_at[np.argsort(audit.scores[looked_at], kind="stable")]
    for part, each in zip(np.array_split(order, 2), told["bins"], strict=True):
        assert each["found"] == pytest.approx((audit.given[part] == truth[part]).mean(), abs=1e-4)
        assert each["stated"] == pytest.approx(audit.scores[part].mean(), abs=1e-4)
    audit.undo()
    assert status_of(audit)["calibration"]["decided"] == 69


def test_what_was_accepted_in_bulk_was_not_looked_at(audit: Audit) -> None:
    flags = np.flatnonzero(audit.flags)[:6]
    audit.decide(flags[:4], "relabel", audit.suggested[flags[:4], 0])
    audit.decide([flags[4]], "keep")
    audit.decide([flags[5]], "keep", how="check")
    audit.decide([flags[4]], "relabel", int(audit.suggested[flags[4], 0]), how="bulk")
    audit.note(int(flags[0]), "seen later")
    assert audit.looked.nonzero()[0].tolist() == [flags[5]]
    assert audit.looked_at(int(flags[5]))
    assert not audit.looked_at(int(flags[0]))
    assert (audit.checked >= 0).nonzero()[0].tolist() == [flags[5]]
    audit.undo()  # the note
    audit.undo()  # the bulk decision on one
    assert audit.looked.nonzero()[0].tolist() == sorted(flags[4:])
    with pytest.raises(InputError, match="ways"):
        audit.decide([0], "keep", how="asleep")
    audit.flush()
    path = audit.path
    audit.close()
    with Audit.open(path, read_only=True) as again:
        assert again.looked.nonzero()[0].tolist() == sorted(flags[4:])


def test_what_a_program_decided_proves_nothing_and_is_known_as_its_work(audit: Audit) -> None:
    from labeltui.audit.decisions import HOW

    flags = np.flatnonzero(audit.flags)[:3]
    audit.decide(flags, "relabel", audit.suggested[flags, 0], how="automatic")
    assert {HOW[audit.how(int(i))] for i in flags} == {"automatic"}
    assert audit.current[flags].tolist() == audit.suggested[flags, 0].tolist()
    assert not audit.looked.any()
    assert (audit.checked == -1).all()
    audit.flush()
    path = audit.path
    audit.close()
    with Audit.open(path) as again:
        assert {HOW[again.how(int(i))] for i in flags} == {"automatic"}
        again.undo()
        assert (again.kinds == 0).all()


def test_random_checks_bound_the_number_of_wrong_labels(audit: Audit) -> None:
    truth = np.load(audit.path.parent / "truth.npy")
    real = int((truth != audit.given)[audit.scorable].sum())
    order = audit.check_plan.order(np.arange(audit.n))
    audit.decide(order[3:9], "keep")  # in bulk, some of the samples to be checked
    assert audit.number_wrong().checks == 0
    for i in order[:40].tolist():
        right = truth[i] == audit.given[i]
        audit.decide([i], "keep" if right else "relabel", None if right else int(truth[i]), how="check")
    audit.decide([int(order[60])], "exclude")  # not next in the order: no check
    known = audit.number_wrong()
    assert known.checks == 40
    assert known.wrong_checks == int((truth != audit.given)[order[:40]].sum())
    assert known.low <= real <= known.high < audit.n
    assert any("by 40 random checks" in line for line in report.status_lines(status_of(audit)))
