"""The demo: known errors, a finished audit, finished or repaired when it is run again."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import labeltui
from labeltui import paths
from labeltui.demo import RATE, Demo, demo, measure
from labeltui.errors import AuditError, Cancelled, UsageError
from labeltui.io.atomic import sha256
from labeltui.store import Store
from tests.factories import made_demo


@pytest.fixture(scope="module")
def made() -> Demo:
    return made_demo()


@pytest.fixture
def copied(made: Demo, tmp_path: Path) -> Path:
    shutil.copytree(made.audit.parent, tmp_path / "demo")
    return tmp_path / "demo"


def digest(directory: Path) -> str:
    return sha256(directory / "digits.audit" / paths.AUDIT_FILE)


def test_the_flags_find_the_planted_errors(made: Demo) -> None:
    assert made.injected.errors == round(RATE * 1797) == 144
    assert made.injected.recall > 0.8
    assert made.injected.precision > 0.9
    assert not made.reused


def test_the_images_are_the_digits_under_their_given_labels(made: Demo) -> None:
    bundle = load_digits()
    rows = list(csv.DictReader(made.truth.open()))
    assert len(rows) == 1797
    assert sorted(str(path.relative_to(made.images)) for path in made.images.rglob("*.png")) == sorted(
        row["path"] for row in rows
    )
    for row in rows[::97]:
        index = int(Path(row["path"]).stem)
        assert row["clean"] == str(bundle.target[index])
        assert row["path"].startswith(row["given"] + "/")
        with Image.open(made.images / row["path"]) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (32, 32)
        assert np.array_equal(pixels[::4, ::4], np.round(bundle.images[index] * 255 / 16))


def test_errors_go_to_digits_that_look_alike(made: Demo) -> None:
    rows = [row for row in csv.DictReader(made.truth.open()) if row["given"] != row["clean"]]
    pairs = {(row["clean"], row["given"]) for row in rows}
    alike = {("8", "1"), ("1", "8"), ("9", "3"), ("3", "9"), ("9", "5"), ("5", "9"), ("8", "9"), ("9", "8")}
    assert pairs & alike
    assert ("0", "1") not in pairs
    with Store.open(made.audit) as opened:
        assert opened.n == 1797
        assert opened.embedding_name == "pixels-8"
        assert opened.class_names == list("0123456789")


def test_precision_and_recall_are_counted(made: Demo) -> None:
    clean = {row["path"]: row["clean"] for row in csv.DictReader(made.truth.open())}
    with Store.open(made.audit) as opened:
        flags = opened.array("suggest/label")[:, 0] != opened.given
        wrong = [
            clean[name.decode()] != str(label) for name, label in zip(opened.ids, opened.given, strict=True)
        ]
    hits = sum(flag and error for flag, error in zip(flags, wrong, strict=True))
    assert made.injected.precision == hits / flags.sum()
    assert made.injected.recall == hits / sum(wrong)


def test_a_finished_demo_is_opened_again(made: Demo) -> None:
    before = (made.audit / paths.AUDIT_FILE).stat().st_mtime_ns
    again = demo(made.audit.parent)
    assert again.reused
    assert again.injected == made.injected
    assert again.seconds < 1
    assert (made.audit / paths.AUDIT_FILE).stat().st_mtime_ns == before


@pytest.mark.usefixtures("few_digits", "brief_training")
def test_an_unfinished_demo_is_repaired(tmp_path: Path) -> None:
    whole, place = demo(tmp_path / "whole"), tmp_path / "stopped"
    embedded: list[int] = []

    def progress(stage: str, count: int, total: int) -> None:
        if stage == "embed":
            embedded.append(count)

    with pytest.raises(Cancelled):
        demo(place, progress, cancel=lambda: len(embedded) > 5)
    (place / "digits.truth.csv").unlink()
    for path in sorted((place / "digits").rglob("*.png"))[5:200]:
        path.unlink()
    (place / "digits" / "9" / "0009.png.tmp").write_bytes(b"half")
    repaired = demo(place)
    assert not repaired.reused
    assert repaired.injected == whole.injected
    assert digest(place) == digest(whole.audit.parent)
    assert repaired.truth.read_bytes() == whole.truth.read_bytes()
    assert not list((place / "digits").rglob("*.tmp"))


def test_other_files_are_never_touched(tmp_path: Path) -> None:
    mine = tmp_path / "digits" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        demo(tmp_path)
    assert mine.read_text() == "mine"
    with pytest.raises(AuditError, match="choose another --out"):
        demo(mine)


def test_a_demo_of_another_version_is_left_alone(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeltui, "__version__", "99.0")
    with pytest.raises(UsageError, match=r"this is 99\.0"):
        demo(copied)


def test_the_default_place_is_the_cache(made: Demo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    place = tmp_path / "labeltui" / f"demo-{labeltui.__version__}"
    shutil.copytree(made.audit.parent, place)
    found = demo()
    assert found.reused
    assert found.audit == place / "digits.audit"


def test_a_truth_of_other_data_is_refused(made: Demo, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("path,given,clean\nx.png,1,1\n")
    with pytest.raises(UsageError, match="every sample"):
        measure(made.audit, tmp_path / "truth.csv")
    with pytest.raises(UsageError, match="every sample"):
        measure(made.audit, tmp_path / "none.csv")
