"""CSG of many classes while a person decides: after a pause, and never on the UI's thread."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from labeltui.audit import Audit, live_csg
from labeltui.tui import app
from tests.factories import make_audit
from tests.tui.desk import at_desk


async def test_the_eigen_solve_waits_for_a_pause_and_runs_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_csg, "SOLVE_AT_ONCE", 1)  # every class count is "many"
    monkeypatch.setattr(app, "SOLVE_AFTER", 3600.0)
    solved: list[threading.Thread] = []
    original = Audit.solve_csg

    def solve(audit: Audit) -> float:
        solved.append(threading.current_thread())
        return original(audit)

    monkeypatch.setattr(Audit, "solve_csg", solve)
    async with at_desk(make_audit(tmp_path, n=160)) as desk:
        before = desk.audit.summary().csg
        await desk.do("suggestion-1", "suggestion-1")
        assert desk.audit.summary().csg_stale
        assert desk.audit.summary().csg == before  # the last one stays on the screen
        assert not solved
        monkeypatch.setattr(app, "SOLVE_AFTER", 0.0)
        await desk.do("suggestion-1")
        await desk.until(lambda: not desk.audit.summary().csg_stale)
        assert len(solved) == 1  # once for three decisions
        assert solved[0] is not threading.main_thread()
        assert desk.audit.summary().csg != before
