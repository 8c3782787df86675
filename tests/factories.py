"""A small audit for every package's tests, in well under a second."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui.demo import Demo, demo
from labeltui.embed import EmbedSpec
from labeltui.head import HeadSpec
from labeltui.io.atomic import write_json
from labeltui.paths import SCAN_FILE
from labeltui.scanning import ScanOptions, scan
from tests import SHARED

# These tests ask that there is a head, not how good it is.
HEAD = HeadSpec(hidden=32, components=32, epochs=2, least_steps=10)
SCHEDULE = HeadSpec.schedule
BRIEF = """
from labeltui.head import HeadSpec
schedule = HeadSpec.schedule
HeadSpec.schedule = lambda self, used: (*schedule(self, used)[:2], 2)
"""
"""What the fixture `brief_training` does, for programs of their own."""


def make_audit(
    directory: Path,
    n: int = 240,
    classes: int = 4,
    seed: int = 0,
    images: bool = True,
    flips: float = 0.1,
) -> Path:
    """Write an image tree (or its embeddings alone) into `directory`, audit it, and return the audit's path.

    Parameters
    ----------
    directory : Path
        Gets `data/` (one folder a class, PNG files of 16 x 16; else `data.npz`), `truth.npy` (n,) int32, the
        classes before flipping, and `small.audit/`.
    n, classes, seed : int
        Samples, classes, seed.
    images : bool
        Make images. Without them the audit holds embeddings only.
    flips : float
        Share of samples whose given label is moved to the next class.

    Returns
    -------
    Path
        ``directory / "small.audit"``.
    """
    made = shared(
        f"{n}-{classes}-{seed}-{images}-{flips}",
        lambda directory: _make(directory, n, classes, seed, images, flips),
    )
    return copied(made, directory) / "small.audit"


def made_demo() -> Demo:
    """Return the demo as `demo` did when it made it, once for all tests; they only read it."""

    def make(directory: Path) -> None:
        (directory / "demo.pickle").write_bytes(pickle.dumps(demo(directory)))

    found: Demo = pickle.loads((shared("demo", make) / "demo.pickle").read_bytes())
    return found


def shared(name: str, make: Callable[[Path], None]) -> Path:
    """Return a directory of the test run that `make` fills once, whichever process asks first."""
    made = Path(os.environ[SHARED]) / name
    with open(f"{made}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not Path(f"{made}.whole").exists():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(HeadSpec, "schedule", SCHEDULE)  # whatever the test that asks first has changed
                make(made)
            Path(f"{made}.whole").touch()
    return made


def copied(made: Path, directory: Path) -> Path:
    """Copy audits with their data into `directory`, and return it; the copies find the copied data."""
    shutil.copytree(made, directory, dirs_exist_ok=True)
    for file in directory.glob(f"*/{SCAN_FILE}"):
        record = json.loads(file.read_text())
        record["root"] = str(directory / Path(record["root"]).relative_to(made))
        write_json(file, record)
    return directory


def _make(directory: Path, n: int, classes: int, seed: int, images: bool, flips: float) -> None:
    rng = np.random.default_rng(seed)
    truth = np.sort(rng.integers(classes, size=n)).astype(np.int32)
    given = truth.copy()
    flipped = rng.choice(n, round(flips * n), replace=False)
    given[flipped] = (given[flipped] + 1) % classes
    order = np.argsort(given, kind="stable")  # a tree lists its samples class by class
    truth, given = truth[order], given[order]
    np.save(directory / "truth.npy", truth)
    centres = rng.integers(40, 216, size=(classes, 4, 4, 3))
    pixels = np.clip(centres[truth] + rng.normal(0, 25, (n, 4, 4, 3)), 0, 255).astype(np.uint8)
    source = directory / "data"
    if images:
        for i in range(n):
            path = source / f"class{given[i]}" / f"{i:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[i]).resize((16, 16), Image.Resampling.NEAREST).save(path)
    else:
        source = directory / "data.npz"
        labels = np.array([f"class{label}" for label in given])
        np.savez(source, embeddings=pixels.reshape(n, -1).astype(np.float32) - 128, labels=labels)
    spec = EmbedSpec("pixels", image_size=4, workers=0)
    scan(source, directory / "small.audit", ScanOptions(embed=spec, head=HEAD))
