"""Grey images of 16 bits that use fewer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui.audit import Audit
from labeltui.embed import EmbedSpec
from labeltui.paths import SCAN_FILE
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import open_source
from tests.factories import HEAD


def grey_tree(root: Path, largest: int, least: int = 0, n: int = 12) -> Path:
    """Noise between two values in 16-bit files of two classes, one dark and one bright; both values occur."""
    rng = np.random.default_rng(0)
    middle = (least + largest) // 2
    for label, (low, high) in enumerate([(least, middle), (middle, largest)]):
        for i in range(n):
            pixels = rng.integers(low, high + 1, (8, 8))
            pixels[0, 0] = least if label == 0 else largest
            path = root / f"class{label}" / f"{i:02}.{'png' if i % 2 else 'tif'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint16)).save(path)
    return root


@pytest.mark.parametrize(
    ("least", "largest", "black", "white"),
    [
        (0, 4000, 0, 4095),  # 12 bits
        (3, 1023, 0, 1023),
        (0, 255, 0, 255),  # 8 bits in 16
        (30_000, 34_000, 30_000, 34_000),  # an offset: nothing in the lower half
    ],
)
def test_the_values_that_occur_fill_the_range(
    tmp_path: Path, least: int, largest: int, black: int, white: int
) -> None:
    source = open_source(grey_tree(tmp_path, largest, least))
    (note,) = [note for note in source.notes if "16-bit grey" in note]
    assert f"{least:,} to {largest:,} occur in the 24 files" in note
    assert f"{black:,} is shown as black and {white:,} as white" in note
    shown = np.stack([np.asarray(source.image(i)) for i in range(24)])
    assert shown.min() == round(255 * (least - black) / (white - black))
    assert shown.max() == round(255 * (largest - black) / (white - black))


def test_all_sixteen_bits_and_eight_bit_files_stay_as_they_are(tmp_path: Path) -> None:
    source = open_source(grey_tree(tmp_path / "full", 65_535))
    stored = np.asarray(Image.open(tmp_path / "full" / source.ids[0].decode()))
    assert np.array_equal(np.asarray(source.image(0))[..., 0], stored >> 8)
    assert not any("shown as black" in note for note in source.notes)
    for name in ("cat", "dog"):
        (tmp_path / "plain" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 9).save(tmp_path / "plain" / name / "1.png")
    assert not any("grey" in note for note in open_source(tmp_path / "plain").notes)


def test_few_levels_are_noted(tmp_path: Path) -> None:
    notes = open_source(grey_tree(tmp_path, 20)).notes
    assert any("only 21 different levels" in note for note in notes)


@pytest.mark.parametrize("workers", [0, 1])
def test_scan_and_review_see_the_same_pixels(tmp_path: Path, workers: int) -> None:
    grey_tree(tmp_path / "data", 4095)
    spec = EmbedSpec("pixels", image_size=4, workers=workers)
    scan(tmp_path / "data", tmp_path / "a.audit", ScanOptions(embed=spec, head=HEAD))
    assert json.loads((tmp_path / "a.audit" / SCAN_FILE).read_text())["source"]["levels"] == [0, 4095]
    with Audit.open(tmp_path / "a.audit", read_only=True) as audit:
        assert np.asarray(audit.images.image(23)).max() == 255
        file = tmp_path / "data" / audit.sample_id(23).decode()
        Image.open(file).save(file.with_suffix(".bmp"), "TIFF")  # the same levels in other bytes
        file.with_suffix(".bmp").replace(file)
        assert np.asarray(audit.images.image(23)).max() == 255
        features = audit._store.embedding()
    assert np.ptp(features) > 0.5  # not all near black
