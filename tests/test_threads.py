from __future__ import annotations

import pytest
import threadpoolctl

from labeltui import threads
from labeltui.errors import UsageError


def test_argument_then_environment_then_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.VARIABLE, "3")
    assert threads.count() == 3
    assert threads.count(2) == 2
    monkeypatch.delenv(threads.VARIABLE)
    assert threads.count() >= 1


@pytest.mark.parametrize("value", ["0", "-2", "many", ""])
def test_bad_environment_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(threads.VARIABLE, value)
    with pytest.raises(UsageError):
        threads.count()


def test_blas_is_limited_and_restored() -> None:
    import numpy  # noqa: F401 - loads the BLAS whose pool is looked at

    def pools() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

    before = pools()
    with threads.blas(1):
        assert all(number == 1 for number in pools())
    assert pools() == before
