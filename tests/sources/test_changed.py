"""Data that changed between the scan and somebody's look at it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui.audit import Audit
from labeltui.embed import EmbedSpec
from labeltui.errors import ChangedImage
from labeltui.export import write
from labeltui.scanning import ScanOptions, scan
from tests.factories import HEAD, make_audit
from tests.tui.desk import at_desk

OPTIONS = ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=HEAD)


def changed(audit: Audit) -> list[int]:
    found = []
    for i in range(audit.n):
        try:
            audit.images.image(i)
        except ChangedImage:
            found.append(i)
    return found


@pytest.mark.parametrize("embedded", [False, True])
def test_rows_of_an_array_in_another_order_are_other_images(tmp_path: Path, embedded: bool) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8),
        "labels": np.array(["cat", "dog"] * 6),
    }
    if embedded:
        arrays["embeddings"] = rng.normal(size=(12, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", **arrays)
    scan(tmp_path / "data.npz", tmp_path / "a.audit", OPTIONS)
    with Audit.open(tmp_path / "a.audit", read_only=True) as audit:
        assert changed(audit) == []
    order = np.arange(12)
    order[[1, 5, 7]] = order[[5, 7, 1]]
    np.savez(tmp_path / "data.npz", **{name: values[order] for name, values in arrays.items()})
    with Audit.open(tmp_path / "a.audit", read_only=True) as audit:
        assert changed(audit) == [1, 5, 7]


def test_the_export_marks_what_is_no_longer_the_scans(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=40)
    with Audit.open(path, read_only=True) as audit:
        names = [tmp_path / "data" / audit.sample_id(i).decode() for i in range(4)]
        names[0].write_bytes(names[3].read_bytes())
        names[1].unlink()
        names[2].write_bytes(b"no image")
        for verify, told in (
            (False, ["ok"] * 40),
            (True, ["changed", "missing", "unreadable"] + ["ok"] * 37),
        ):
            buffer = io.BytesIO()
            assert write(audit, buffer, verify=verify).lost == 3 * verify
            rows = csv.DictReader(io.StringIO(buffer.getvalue().decode()))
            assert [row["status"] for row in rows] == told


async def test_the_review_says_that_an_image_changed(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=40)
    with Audit.open(path, read_only=True) as audit:
        names = [audit.sample_id(i).decode() for i in audit.queue().tolist()]
    for name in names:
        Image.new("RGB", (16, 16), "red").save(tmp_path / "data" / name)
    async with at_desk(path) as desk:
        await desk.until(lambda: "changed since the scan" in desk.text)


def test_another_file_under_a_samples_name_is_refused(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=40)
    with Audit.open(path, read_only=True) as audit:
        names = [tmp_path / "data" / audit.sample_id(i).decode() for i in range(3)]
        names[0].write_bytes(names[1].read_bytes())
        Image.open(names[2]).save(names[2], pnginfo=None, compress_level=0)  # other bytes, the same image
        with pytest.raises(ChangedImage, match="changed since the scan") as caught:
            audit.images.image(0)
        assert audit.sample_name(0) in caught.value.got
        with pytest.raises(ChangedImage):
            audit.images.read(0)
        assert audit.images.image(2).size == (16, 16)
        assert changed(audit) == [0]
