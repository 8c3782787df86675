"""What works where torch is not installed: scans of `pixels` and of ready embeddings, reviews, exports, reports."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.factories import make_audit

ROOT = Path(__file__).parents[1]
BLOCK = """
import importlib.machinery
found = importlib.machinery.PathFinder.find_spec
absent = {"torch", "torchvision", "timm"}
importlib.machinery.PathFinder.find_spec = staticmethod(
    lambda name, *rest: None if name.partition(".")[0] in absent else found(name, *rest)
)
"""


def run(code: str, directory: Path) -> str:
    """Run code in an interpreter in which torch, torchvision and timm are not installed."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(directory / "config"), "WHERE": str(directory)}
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("source", ["data", "data.npz"])
def test_from_scan_to_report(tmp_path: Path, source: str) -> None:
    make_audit(tmp_path, images=source == "data")
    said = run(
        f"""
import os
os.chdir(os.environ["WHERE"])
from labeltui.cli import cli
for line in (
    "scan {source} -o new.audit --model pixels --image-size 4",
    "export new.audit -o labels.csv --apply-suggestions",
    "report new.audit -o report.html",
    "explain new.audit 3",
    "check new.audit",
):
    assert not cli.main(line.split(), standalone_mode=False), line
""",
        tmp_path,
    )
    assert "torch is not installed" in said
    truth = np.load(tmp_path / "truth.npy")
    with open(tmp_path / "labels.csv", newline="") as file:
        corrected = np.array([int(row["corrected_label"][-1]) for row in csv.DictReader(file)])
    assert (corrected == truth).mean() > 0.95  # as given: 0.9


def test_a_review_of_an_audit_that_was_made_with_it(tmp_path: Path) -> None:
    make_audit(tmp_path)
    said = run(
        """
import asyncio, os
from pathlib import Path
from tests.tui.desk import at_desk
async def drive():
    async with at_desk(Path(os.environ["WHERE"]) / "small.audit") as desk:
        await desk.do("keep")
        print(desk.audit.decisions()["keep"])
asyncio.run(drive())
""",
        tmp_path,
    )
    assert said.split()[-1] == "1"
