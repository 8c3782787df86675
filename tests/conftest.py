"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

from tests.factories import SHARED


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers inherit it
        os.environ[SHARED] = tempfile.mkdtemp(prefix="labeltui-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[SHARED], ignore_errors=True)
