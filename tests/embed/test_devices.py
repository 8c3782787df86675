"""Several devices, a process each: here two CPUs, whose blocks must be those of one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labeltui.embed import (
    EmbedSpec,
    batch_ranges,
    load_embedder,
    on_devices,
    stream,
)
from labeltui.errors import Cancelled, ModelError, UsageError
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import Source, open_source
from tests.embed.test_backbone import TINY
from tests.embed.test_stream import children
from tests.factories import HEAD

N = 37
PIXELS = EmbedSpec("pixels", image_size=4, batch_size=4, device="cpu,cpu")
NETWORK = EmbedSpec(TINY, pretrained=False, image_size=32, batch_size=8, device="cpu,cpu")


@pytest.fixture
def tree(tmp_path: Path) -> Source:
    rng = np.random.default_rng(0)
    for i in range(N):
        (tmp_path / "data" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "ab"[i % 2] / f"{i:02}.png")
    (tmp_path / "data" / "a" / "04.png").write_bytes(b"no image")
    return open_source(tmp_path / "data")


@pytest.mark.parametrize("spec", [PIXELS, NETWORK], ids=["pixels", "network"])
def test_two_devices_give_the_blocks_of_one(tree: Source, spec: EmbedSpec) -> None:
    before, embedder = children(), load_embedder(spec)
    ranges = batch_ranges(N, embedder.batch_size)
    wanted = {block.start: block for block in stream(tree, embedder, ranges, 1, threads=1)}
    found = {block.start: block for block in on_devices(tree, embedder, spec, ranges, 1, threads=2)}
    assert found.keys() == wanted.keys()
    for start, block in wanted.items():
        for name in ("features", "sha256", "pixels", "status"):
            assert np.array_equal(getattr(block, name), getattr(found[start], name))
        assert found[start].faults == block.faults
    assert any(block.faults for block in found.values())
    assert children() <= before


def test_a_scan_has_the_same_bytes(tree: Source, tmp_path: Path) -> None:
    digests = set()
    for number, device in enumerate(("cpu", "cpu,cpu")):
        spec = EmbedSpec("pixels", image_size=4, batch_size=4, device=device, workers=0)
        scan(tree.root, tmp_path / f"{number}.audit", ScanOptions(embed=spec, head=HEAD))
        digests.add(hashlib.sha256((tmp_path / f"{number}.audit" / "audit.h5").read_bytes()).digest())
    assert len(digests) == 1


def test_a_process_that_is_killed_says_so(tree: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    monkeypatch.setattr("labeltui.embed.devices.SERVE", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ModelError, match="that of cpu ended with SIGKILL"):
        list(on_devices(tree, load_embedder(PIXELS), PIXELS, batch_ranges(N, 4), 0))
    assert children() == before


def test_stopping_ends_all_processes(tree: Source) -> None:
    before = children()
    with pytest.raises(Cancelled):
        list(on_devices(tree, load_embedder(PIXELS), PIXELS, batch_ranges(N, 4), 0, lambda: True))
    assert children() == before


@pytest.mark.parametrize("device", ["cpu,", "cpu,auto", "cuda:0,,cpu", "gpu"])
def test_lists_of_devices_that_are_none(device: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        EmbedSpec("pixels", device=device)


def test_a_compiled_model_gives_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced, and run without generating code, which takes a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    spec = replace(NETWORK, device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    plain, compiled = load_embedder(spec), load_embedder(replace(spec, compile=True))
    assert compiled.attrs["compiled"] is True
    assert "compiled" not in plain.attrs
    wanted = plain.encode(pixels)
    np.testing.assert_allclose(compiled.encode(pixels), wanted, atol=1e-4 * abs(wanted).max())


def test_a_model_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: object, example: object) -> object:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    with pytest.raises(ModelError, match="--compile needs"):
        load_embedder(replace(NETWORK, device="cpu", compile=True))
