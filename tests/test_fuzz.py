"""A thousand mutations of everything that is read; `benchmarks/fuzz.py` tries more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fuzzing


@pytest.mark.timeout(600)  # half a minute on a machine of its own
def test_no_file_brings_anything_but_an_error_of_ours(tmp_path: Path) -> None:
    fuzzing.prepare(tmp_path)
    outcome = fuzzing.fuzz(tmp_path, 1_000, seed=7)
    assert outcome.faults == []
    assert sum(outcome.trials.values()) == 1_000
    assert set(outcome.trials) == set(fuzzing.targets(tmp_path))
    assert 0.3 < sum(outcome.refused.values()) / 1_000 < 0.9  # most mutations matter, and not all do
    assert outcome.slowest < fuzzing.SECONDS
    assert outcome.memory < fuzzing.MEMORY


def test_a_crash_and_a_hang_are_findings(tmp_path: Path, monkeypatch) -> None:
    import os
    import time

    (tmp_path / "x").write_bytes(b"0" * 50)
    uses = {
        "crash": lambda path: os.kill(os.getpid(), 9),
        "hang": lambda path: time.sleep(9),
        "fault": lambda path: 1 / 0,
    }
    known = {name: fuzzing.Target("x", use, (fuzzing.in_bytes,)) for name, use in uses.items()}
    monkeypatch.setattr(fuzzing, "targets", lambda path: known)
    monkeypatch.setattr(fuzzing, "SECONDS", 1)
    for name, word in (("crash", "ended with"), ("hang", "longer than"), ("fault", "ZeroDivisionError")):
        outcome = fuzzing.fuzz(tmp_path, 1, only=name)
        assert len(outcome.faults) == 1
        assert word in outcome.faults[0]
