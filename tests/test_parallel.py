from __future__ import annotations

import re
import threading

import pytest
import threadpoolctl

from labeltui import parallel
from labeltui.errors import Cancelled, UsageError


def test_argument_then_environment_then_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parallel.VARIABLE, "3")
    assert parallel.count_threads() == 3
    assert parallel.count_threads(2) == 2
    monkeypatch.delenv(parallel.VARIABLE)
    assert parallel.count_threads() >= 1


@pytest.mark.parametrize("value", ["0", "-2", "many", ""])
def test_bad_environment_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(parallel.VARIABLE, value)
    with pytest.raises(UsageError):
        parallel.count_threads()


def test_blas_is_limited_and_restored() -> None:
    import numpy  # noqa: F401 - loads the BLAS whose pool is looked at

    def pools() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

    before = pools()
    with parallel.limit_blas(1):
        assert all(number == 1 for number in pools())
    assert pools() == before


def test_overlapping_blas_limits_restore_what_was_before() -> None:
    import numpy  # noqa: F401 - loads the BLAS whose pool is looked at

    def pools() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    before = pools()
    with parallel.limit_blas(2):
        first, second = parallel.limit_blas(1), parallel.limit_blas(1)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)  # the first to enter is the first to leave
        assert set(pools()) == {1}
        second.__exit__(None, None, None)
        assert set(pools()) == {2}
    assert pools() == before


def test_calls_run_in_order_of_results_and_report_progress() -> None:
    reported: list[float] = []
    calls = [lambda number=number: number * number for number in range(7)]
    results = parallel.run(calls, 3, fraction=lambda: 0.5, stop=lambda: None, progress=reported.append)
    assert results == [0, 1, 4, 9, 16, 25, 36]
    assert reported[-1] == 1.0


def test_cancel_and_failure_end_all_threads() -> None:
    stopped = threading.Event()

    def fail() -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        parallel.run([fail, stopped.wait], 2, fraction=lambda: 0.0, stop=stopped.set)
    stopped.clear()
    with pytest.raises(Cancelled, match="the test was stopped"):
        parallel.run(
            [stopped.wait] * 5,
            2,
            fraction=lambda: 0.0,
            stop=stopped.set,
            cancel=lambda: True,
            what="the test",
        )
    assert not [thread for thread in threading.enumerate() if re.fullmatch(r"labeltui-\d+", thread.name)]
