"""Scans of data that was scanned before: the same file as a scan of everything, with the decisions of before."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui import scanning, store
from labeltui.audit import Audit
from labeltui.check import check
from labeltui.cli import cli
from labeltui.embed import EmbedSpec
from labeltui.errors import Cancelled, UsageError
from labeltui.scanning import ScanOptions, carrying, recorded_options, scan
from labeltui.scanning.update import Earlier
from labeltui.sharing import merge
from tests.factories import HEAD, copied, make_audit, shared

OPTIONS = ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0, batch_size=32), head=HEAD)


def digest(audit: Path) -> str:
    return hashlib.sha256((audit / "audit.h5").read_bytes()).hexdigest()


def image(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def grow(here: Path) -> None:
    """Make a reviewed audit, its data after somebody added, removed, changed and moved images, and a scan of that."""
    data = make_audit(here / "made", n=240, classes=4).parent / "data"
    audit = here / "old.audit"
    scan(data, audit, OPTIONS)
    with Audit.open(audit, reviewer="ada") as opened:
        opened.decide([0], "exclude", note="not a thing")
        opened.decide([1], "relabel", label=2)
        opened.decide([2], "keep")
        opened.decide([3], "relabel", label=3)
        opened.undo()
        opened.decide([4], "keep")
        opened.decide([5], "relabel", label=1)
        opened.decide([6, 7], "keep")
        opened.note(8, "look")
        names = [opened.sample_name(i) for i in range(opened.n)]
    (data / names[4]).unlink()
    image(1).save(data / names[5])
    (data / names[1]).rename(data / "class2" / "moved.png")  # as ada decided
    (data / names[2]).rename(data / "class3" / "elsewhere.png")  # against ada's decision
    (data / names[100]).rename(data / Path(names[100]).parent / "aaa.png")
    for seed in range(2, 6):
        image(seed).save(data / f"class{seed - 2}" / f"new{seed}.png")
    scan(data, here / "fresh.audit", OPTIONS)


@pytest.fixture
def grown(tmp_path: Path) -> tuple[Path, Path]:
    """`old.audit` and its grown data; the scan of everything is `fresh.audit`."""
    copied(shared("grown", grow), tmp_path)
    return tmp_path / "old.audit", tmp_path / "made" / "data"


def test_the_file_is_that_of_a_scan_of_everything(grown: tuple[Path, Path], tmp_path: Path) -> None:
    audit, data = grown
    scan(data, tmp_path / "new.audit", OPTIONS, update=audit)
    assert digest(tmp_path / "new.audit") == digest(tmp_path / "fresh.audit")
    assert check(tmp_path / "new.audit").whole


def test_decisions_stay_with_their_image_author_and_time(grown: tuple[Path, Path], tmp_path: Path) -> None:
    audit, data = grown
    before = digest(audit)
    with Audit.open(audit, read_only=True) as old:
        names = [old.sample_name(i) for i in range(old.n)]
        decisions = [old.decision(i) for i in range(old.n)]
    scan(data, tmp_path / "new.audit", OPTIONS, update=audit)
    assert digest(audit) == before
    with Audit.open(tmp_path / "new.audit", reviewer="bob") as new:
        place = {new.sample_name(i): i for i in range(new.n)}
        kept = new.decision(place[names[0]])
        assert kept == decisions[0]
        assert kept is not None and kept.note == "not a thing"  # noqa: PT018
        moved, elsewhere = (
            new.decision(place["class2/moved.png"]),
            new.decision(place["class3/elsewhere.png"]),
        )
        assert moved is not None and elsewhere is not None  # noqa: PT018
        assert (moved.kind, moved.label) == ("keep", 2)  # the label is now the one that ada gave
        assert (elsewhere.kind, elsewhere.label) == ("relabel", 0)  # ada's word stands
        assert (elsewhere.reviewer, elsewhere.time) == (decisions[2].reviewer, decisions[2].time)  # type: ignore[union-attr]
        assert new.decision(place[names[3]]) is None
        assert new.decision(place[names[5]]) is None  # another image now
        assert new.note_of(place[names[8]]) == "look"
        assert int(np.count_nonzero(new.kinds)) == 5
        assert new.undo() is not None  # the note
        assert new.undo() is not None  # the two kept together
        assert int(np.count_nonzero(new.kinds)) == 3
    record = json.loads((tmp_path / "new.audit" / "scan.json").read_text())["update"]
    assert record["added"] == 4
    assert record["gone"] == 1
    assert record["changed"] == 1
    assert record["moved"] == 3
    assert record["relabelled"] == {"ours": 1, "contradicts": 1, "undecided": 0}
    assert (record["decisions_carried"], record["decisions_left"]) == (6, 2)


def test_merged_decisions_stay_merged(grown: tuple[Path, Path], tmp_path: Path) -> None:
    audit, data = grown
    shutil.copytree(audit, tmp_path / "bob.audit")
    with Audit.open(tmp_path / "bob.audit", reviewer="bob") as other:
        other.decide([0], "keep")  # ada excluded it
        other.decide([50], "exclude")
    merge([audit, tmp_path / "bob.audit"])
    scan(data, tmp_path / "new.audit", OPTIONS, update=audit)
    with Audit.open(audit, read_only=True) as old, Audit.open(tmp_path / "new.audit") as new:
        first, second = (new.index_of(old.sample_name(i)) for i in (0, 50))
        assert list(new.disagreements()) == [first]
        assert new.decision(second) == old.decision(50)
        assert new.decision(second).reviewer == "bob"  # type: ignore[union-attr]
        new.undo()
        assert not new.disagreements()


def test_only_new_images_are_decoded(
    grown: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streaming = importlib.import_module("labeltui.embed.stream")
    decoded: list[int] = []
    original = streaming._Pipeline._decode

    def counting(self: object, work: object, part: object, offset: int) -> None:
        decoded.extend(self.chosen[part.samples[offset : offset + streaming.DECODE_BATCH]])  # type: ignore[attr-defined]
        original(self, work, part, offset)  # type: ignore[arg-type]

    monkeypatch.setattr(streaming._Pipeline, "_decode", counting)
    audit, data = grown
    scan(data, tmp_path / "new.audit", OPTIONS, update=audit)
    assert len(decoded) == len(set(decoded)) == 5  # four new and one changed


def test_another_model_embeds_everything_anew(grown: tuple[Path, Path], tmp_path: Path) -> None:
    audit, data = grown
    other = ScanOptions(embed=EmbedSpec("pixels", image_size=5, workers=0), head=HEAD)
    scan(data, tmp_path / "new.audit", other, update=audit)
    scan(data, tmp_path / "other.audit", other)
    assert digest(tmp_path / "new.audit") == digest(tmp_path / "other.audit")
    with Audit.open(tmp_path / "new.audit", read_only=True) as new:
        assert int(np.count_nonzero(new.kinds)) == 5


def test_a_stopped_update_resumes(grown: tuple[Path, Path], tmp_path: Path) -> None:
    audit, data = grown
    stages: list[str] = []

    def report(stage: str, done: int, total: int) -> None:
        stages.append(stage)

    with pytest.raises(Cancelled):
        scan(data, tmp_path / "new.audit", OPTIONS, report, lambda: "duplicates" in stages, update=audit)
    scan(data, tmp_path / "new.audit", OPTIONS, update=audit)
    assert digest(tmp_path / "new.audit") == digest(tmp_path / "fresh.audit")
    with Audit.open(tmp_path / "new.audit", read_only=True) as new:
        assert int(np.count_nonzero(new.kinds)) == 5


def test_ready_embeddings_are_matched_by_their_content(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=600)
    rows = (rng.normal(size=(3, 8))[labels] * 3 + rng.normal(size=(600, 8))).astype(np.float32)
    names = np.array(["a", "b", "c"])[labels]
    chosen = np.arange(600) % 50 != 7  # the others come later, in between
    options = ScanOptions(head=HEAD)
    np.savez(tmp_path / "data.npz", embeddings=rows[chosen], labels=names[chosen])
    scan(tmp_path / "data.npz", tmp_path / "old.audit", options)
    with Audit.open(tmp_path / "old.audit") as old:
        old.decide([300], "exclude")
    np.savez(tmp_path / "data.npz", embeddings=rows, labels=names)
    scan(tmp_path / "data.npz", tmp_path / "new.audit", options, update=tmp_path / "old.audit")
    scan(tmp_path / "data.npz", tmp_path / "fresh.audit", options)
    assert digest(tmp_path / "new.audit") == digest(tmp_path / "fresh.audit")
    with Audit.open(tmp_path / "new.audit", read_only=True) as new:
        assert np.flatnonzero(new.excluded).tolist() == [np.flatnonzero(chosen)[300]]


def test_the_command_takes_the_options_of_the_earlier_scan(
    grown: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audit, data = grown
    assert replace(recorded_options(audit).embed, workers=0) == OPTIONS.embed
    assert recorded_options(audit).head == HEAD
    assert recorded_options(audit, k=7).k == 7
    out = tmp_path / "new.audit"
    cli.main(["scan", str(data), "-o", str(out), "--update", str(audit)], standalone_mode=False)
    said = capsys.readouterr().out
    assert "4 samples are new" in said
    assert "3 samples moved" in said
    assert "6 decisions and notes taken over, 2 left behind" in said
    assert digest(out) == digest(tmp_path / "fresh.audit")
    assert scanning.summary(out).samples == 243


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ready embeddings of 4,300 samples of which 30 come later, and the scan of the others."""
    here = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(3)
    labels = rng.integers(4, size=4300)
    rows = (rng.normal(size=(4, 8))[labels] * 2 + rng.normal(size=(4300, 8))).astype(np.float32)
    wrong = rng.random(4300) < 0.05
    given = np.where(wrong, (labels + 1) % 4, labels)
    old = np.ones(4300, bool)
    old[rng.choice(4300, 30, replace=False)] = False
    names = np.array([f"class{label}" for label in given])
    ids = np.array([f"s{i:04}" for i in range(4300)])
    np.savez(here / "old.npz", embeddings=rows[old], labels=names[old], ids=ids[old])
    names[np.flatnonzero(old)[:5]] = "class3"  # somebody relabelled them
    np.savez(here / "data.npz", embeddings=rows, labels=names, ids=ids)
    np.save(here / "wrong.npy", given != labels)
    scan(here / "old.npz", here / "old.audit", OPTIONS)
    scan(here / "data.npz", here / "fresh.audit", OPTIONS)
    return here


def test_a_small_change_trains_on_a_part(large: Path, tmp_path: Path) -> None:
    scan(large / "data.npz", tmp_path / "new.audit", OPTIONS, update=large / "old.audit")
    with (
        store.Store.open(large / "old.audit") as old,
        store.Store.open(tmp_path / "new.audit") as new,
        store.Store.open(large / "fresh.audit") as fresh,
    ):
        place = old.ids.indices(list(new.ids))
        relabelled = (place >= 0) & (old.given[place] != new.given)
        due = (place < 0) | relabelled
        record = new.scan["carried"]
        assert (record["samples"], record["scored"]) == (4300 - due.sum(), due.sum())
        assert record["trained_on"] < 2500
        classifier_free = 0
        for group in ("samples", "labels", "classes", "embeddings", "groups", "csg"):
            for name in fresh.names_in(group):
                assert np.array_equal(
                    new.array(f"{group}/{name}"), fresh.array(f"{group}/{name}"), equal_nan=True
                )
        for part in ("indices", "similarity", "rev_indptr", "rev_indices"):
            assert np.array_equal(
                new.array(f"graph/{fresh.embedding_name}/{part}"),
                fresh.array(f"graph/{fresh.embedding_name}/{part}"),
            )
        for name in ("neighbours", "nearest", "duplicates", "csg"):
            assert np.array_equal(new.array(f"scores/{name}"), fresh.array(f"scores/{name}"))
            assert new.attrs(f"scores/{name}") == fresh.attrs(f"scores/{name}")
            classifier_free += 1
        assert classifier_free == 4
        for name in ("scores/head", "scores/blend", "suggest/label", "suggest/p", "proposals/head"):
            assert np.array_equal(new.array(name)[~due], old.array(name)[place[~due]])
        wrong = np.load(large / "wrong.npy")
        flags = new.array("suggest/label")[:, 0] != new.given
        flags_fresh = fresh.array("suggest/label")[:, 0] != fresh.given
        assert (flags == flags_fresh)[due].mean() > 0.9
        assert (flags[due & ~relabelled] == wrong[due & ~relabelled]).mean() > 0.9
        assert set(new.names_in("scores")) == set(fresh.names_in("scores"))
    assert check(tmp_path / "new.audit").whole


def test_rescoring_gives_the_file_of_a_scan_of_everything(large: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, rescore=True)
    scan(large / "data.npz", tmp_path / "new.audit", options, update=large / "old.audit")
    assert digest(tmp_path / "new.audit") == digest(large / "fresh.audit")
    assert any("trained anew: --rescore" in note for note in scanning.summary(tmp_path / "new.audit").notes)


@pytest.mark.parametrize(
    ("record", "same_options", "why"),
    [
        ({}, True, ""),
        ({}, False, "other options"),
        ({"carried": {"since": 220}}, True, "more than 5%"),
        ({"version": "0.0.1"}, True, "another version"),
    ],
)
def test_when_scores_are_trained_anew(
    large: Path, tmp_path: Path, record: dict[str, object], same_options: bool, why: str
) -> None:
    shutil.copytree(large / "old.audit", tmp_path / "old.audit")
    file = tmp_path / "old.audit" / "scan.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **record}))
    earlier = Earlier(tmp_path / "old.audit")
    opened = earlier.store
    earlier.match(list(opened.ids), opened.array("samples/sha256"))
    inputs = carrying.Inputs(
        opened.given, len(opened.class_ids), opened.embedding(), np.ones(opened.n, bool),
        None, opened.embedding_name, "cpu",
    )  # fmt: skip
    found = carrying.why_not(earlier, inputs, opened.class_ids, same_options)
    assert why in found
    assert bool(why) == bool(found)
    assert carrying.why_not(earlier, inputs, [*opened.class_ids, b"new"], True)
    other = replace(inputs, embeddings=inputs.embeddings + np.float32(1))
    assert "embedding" in carrying.why_not(earlier, other, opened.class_ids, True) or why
    earlier.close()


def test_rescoring_is_for_updates(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--update"):
        scan(tmp_path, tmp_path / "x.audit", replace(OPTIONS, rescore=True))
