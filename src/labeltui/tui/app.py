"""The terminal UI: one audit, one person, one screen over another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from labeltui.tui.actions import Keymap
from labeltui.tui.screens.review import ReviewScreen
from labeltui.tui.session import Session
from labeltui.tui.theme import DARK, THEMES

if TYPE_CHECKING:
    from labeltui.audit import Audit
    from labeltui.tui.jobs import Jobs


class LabeltuiApp(App[None], inherit_bindings=False):
    """The application; it owns no audit and no job, both are its caller's."""

    CSS_PATH = "labeltui.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "labeltui"

    def __init__(
        self,
        audit: Audit,
        *,
        jobs: Jobs | None = None,
        keys: Mapping[str, Sequence[str]] | None = None,
        theme: str = DARK.name,
        graphics: str = "auto",
        max_kbps: int | None = None,
        read_only: bool = False,
        train_after: int = 20,
    ) -> None:
        super().__init__()
        self.audit = audit
        self.jobs = jobs
        self.keymap = Keymap(keys)
        self.read_only = read_only
        self.session = Session(audit)
        for known in THEMES:
            self.register_theme(known)
        self.theme = theme if theme in self.available_themes else DARK.name
        self.review = ReviewScreen(self.session, self.keymap, read_only=read_only)

    def get_default_screen(self) -> ReviewScreen:
        return self.review

    def start_training(self) -> None:
        """Start fine-tuning in the background."""

    def cancel_training(self) -> None:
        """Stop it."""

    def export(self) -> None:
        """Write the CSV."""


def run(
    audit_path: Path,
    *,
    reviewer: str | None = None,
    graphics: str = "auto",
    source: Path | None = None,
    max_kbps: int | None = None,
    read_only: bool = False,
    keys: Mapping[str, Sequence[str]] | None = None,
    theme: str = DARK.name,
    train_after: int = 20,
) -> None:
    """Open the terminal UI on an audit and return when the person leaves it."""
    from labeltui.audit import Audit

    with Audit.open(audit_path, reviewer=reviewer, read_only=read_only, source_root=source) as audit:
        LabeltuiApp(
            audit,
            keys=keys,
            theme=theme,
            graphics=graphics,
            max_kbps=max_kbps,
            read_only=read_only,
            train_after=train_after,
        ).run()
