"""Numbers of the wrong scale or order are refused or warned of before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labeltui.embed import EmbedSpec
from labeltui.errors import SourceError, UsageError
from labeltui.metric import choose_metric
from labeltui.scanning.label_table import read_label_table
from labeltui.sources import check_agreement, open_source

CLASSES = [b"cat", b"dog", b"fox", b"owl"]


def predictions(n: int = 400, right: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose likeliest class is the given label in a share `right` of the samples, and the labels."""
    rng = np.random.default_rng(0)
    given = (np.arange(n) % 4).astype(np.int32)
    likely = np.where(rng.random(n) < right, given, (given + 1 + rng.integers(3, size=n)) % 4)
    p = np.full((n, 4), 0.1, np.float32)
    p[np.arange(n), likely] = 0.7
    return p, given


@pytest.mark.parametrize("option", [{"mean": (123.7, 116.3, 103.5)}, {"std": (58.4,)}, {"mean": (-0.1,)}])
def test_normalisation_constants_are_of_pixels_up_to_one(option: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(UsageError, match="divide constants"):
        EmbedSpec("resnet18", **option)  # type: ignore[arg-type]
    assert EmbedSpec("resnet18", mean=(0.0,), std=(1.0,)).std == (1.0,)


def test_probabilities_that_agree_are_not_noted() -> None:
    p, given = predictions()
    assert check_agreement(p, given, CLASSES) == []
    assert check_agreement(p[:, ::-1], np.full(400, -1, np.int32), CLASSES) == []
    noisy, given = predictions(right=0.4)  # human errors, and still better than chance
    assert check_agreement(noisy, given, CLASSES) == []


def test_columns_in_another_order_are_refused() -> None:
    p, given = predictions()
    with pytest.raises(SourceError, match="another order") as caught:
        check_agreement(p[:, [1, 2, 3, 0]], given, CLASSES)
    assert "--class-order" in caught.value.hint


def test_two_columns_swapped_are_named() -> None:
    p, given = predictions()
    (note,) = check_agreement(p[:, [1, 0, 2, 3]], given, CLASSES)
    assert note.startswith("WARNING")
    assert "cat as dog, dog as cat" in note


def test_rows_in_another_order_are_noted() -> None:
    p, given = predictions()
    (note,) = check_agreement(np.random.default_rng(1).permutation(p), given, CLASSES)
    assert "by chance" in note
    assert "rows in the order of the samples" in note
    features = np.eye(4, dtype=np.float32)[given] + np.random.default_rng(0).normal(0, 0.1, (400, 4))
    inside = np.ones(400, bool)
    assert "WARNING" not in choose_metric(features.astype(np.float32), given, inside, 10, 1)[1]
    mixed = np.random.default_rng(1).permutation(features).astype(np.float32)
    assert "order of the labels" in choose_metric(mixed, given, inside, 10, 1)[1]


def test_lists_and_splits_of_something_else_are_noted(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label,split\na.png,0,0\nb.png,1,1\nc.png,0,0\nd.png,1,1\n")
    (tmp_path / "classes.txt").write_text("airplane\nautomobile\n")
    (tmp_path / "names.csv").write_text("0,airplane\nbird,bird\n")
    source = open_source(tmp_path / "t.csv")
    notes = read_label_table(source, None, tmp_path / "classes.txt", tmp_path / "names.csv").notes
    assert any("no label is one of the 2 classes" in note for note in notes)
    assert any("names of no class: bird" in note for note in notes)
    assert any("each split holds a class of its own" in note for note in notes)
    (tmp_path / "t.csv").write_text(
        "path,label,split\na.png,0,train\nb.png,1,train\nc.png,0,test\nd.png,1,test\n"
    )
    assert not any(
        "WARNING" in note
        for note in read_label_table(open_source(tmp_path / "t.csv"), None, None, None).notes
    )
