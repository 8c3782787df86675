"""What is loaded when, and in which direction the packages import each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded(code: str) -> set[str]:
    """Modules that a fresh interpreter has after `code`."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "modules",
    [
        "labeltui",
        "labeltui.cli",
        "labeltui.audit, labeltui.export, labeltui.journal, labeltui.train.jobs",
        "labeltui.tui.app, labeltui.tui.screens.review, labeltui.tui.screens.comparison, labeltui.train.compare",
        "labeltui.sources, labeltui.embed, labeltui.embed.worker, labeltui.scanning, labeltui.demo",
    ],
)
def test_torch_waits_until_it_is_needed(modules: str) -> None:
    assert not {"torch", "torchvision", "timm"} & loaded(f"import {modules}")


def test_the_headless_packages_load_no_terminal_ui() -> None:
    assert "textual" not in loaded(
        "import labeltui.audit, labeltui.export, labeltui.scanning, labeltui.report"
    )


def test_the_package_itself_is_light() -> None:
    assert not {"numpy", "h5py", "textual", "click", "PIL"} & loaded("import labeltui")


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="the contract is part of the checkout")
def test_imports_point_up() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert "2 kept, 0 broken" in result.stdout
