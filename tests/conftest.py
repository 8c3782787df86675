"""Fixtures that several packages' tests share."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests import SHARED


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers inherit it
        os.environ[SHARED] = tempfile.mkdtemp(prefix="labeltui-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[SHARED], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, those with a time limit of their own: at the end one core would wait for the other."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


_modules = 0


def pytest_collection_finish() -> None:
    _freeze()
    # To look for garbage among everything takes a third of a second once torch is loaded, and was a fifth of some
    # tests: it is done ten times as seldom.
    gc.set_threshold(700, 10, 100)


def pytest_runtest_logfinish() -> None:
    if len(sys.modules) > _modules + 500:  # torch, for example
        _freeze()


def _freeze() -> None:
    """Take what there is out of the search for garbage: modules stay to the end."""
    global _modules
    _modules = len(sys.modules)
    gc.freeze()


@pytest.fixture(autouse=True)
def no_job_outlives_its_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kill training processes that the test has left; they would go on beside the tests that follow."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    place = os.fsencode(request.getfixturevalue("tmp_path"))
    yield
    for process in filter(str.isdigit, os.listdir("/proc")):
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{process}/cmdline", "rb") as file,
        ):  # if it has not ended
            words = file.read().split(b"\0")
            if b"-m" in words and any(word.startswith(place) for word in words):
                os.kill(int(process), signal.SIGKILL)


@pytest.fixture
def brief_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let heads train for two epochs, where a test asks that there is a classifier and not how good it is."""
    from labeltui.head import HeadSpec
    from tests.factories import SCHEDULE

    monkeypatch.setattr(HeadSpec, "schedule", lambda self, used: (*SCHEDULE(self, used)[:2], 2))


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo be of 400 digits, where a test asks what is made and not how many errors are found."""
    import sklearn.datasets

    whole = sklearn.datasets.load_digits()
    few = sklearn.utils.Bunch(**{name: whole[name][:400] for name in ("data", "target", "images")})
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: few)
