"""Names of the files of an audit and of its training runs, states of a sample, and the user's directories."""

from __future__ import annotations

import re
from pathlib import Path

import platformdirs

# An audit.
AUDIT_FILE = "audit.h5"
SCAN_FILE = "scan.json"
PARTIAL = "scan.partial"
DERIVED = "derived"
JOURNAL_FILE = "journal.db"
JOURNAL_LOCK = "journal.lock"
RUNS = "runs"

# A training run, below RUNS.
SPEC_FILE = "spec.json"
LAUNCH_FILE = "launch.json"
EVENTS_FILE = "events.jsonl"
HEARTBEAT_FILE = "heartbeat.json"
LOG_FILE = "log.txt"
CANCEL_FILE = "cancel"
EXIT_FILE = "exit.json"
RESULT_FILE = "result.h5"
PREDICTIONS_FILE = "predictions.npz"
METRICS_FILE = "metrics.json"
DYNAMICS_FILE = "dynamics.h5"
EPOCHS = "epochs"
CHECKPOINTS = "checkpoints"

OK, UNREADABLE, NON_FINITE, ZERO = range(4)
STATUS_NAMES = ("ok", "unreadable", "non_finite", "zero")
"""What a sample's status means; all but ok stay in the audit and out of graph, CSG and folds."""

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):/+(?P<rest>[^/].*)", re.DOTALL)


def as_url(path: Path) -> str | None:
    """Return the URL that a path stands for, None for a local path.

    >>> as_url(Path("s3://bucket/a.tar"))
    's3://bucket/a.tar'
    >>> as_url(Path("photos/cats"))
    """
    matched = _URL.fullmatch(str(path))
    return f"{matched['scheme']}://{matched['rest']}" if matched else None


def config_dir() -> Path:
    """Directory of ``config.toml``."""
    return platformdirs.user_config_path("labeltui")


def cache_dir() -> Path:
    """Directory of things that can be made again (the demo's data, what terminals answered)."""
    return platformdirs.user_cache_path("labeltui")


def state_dir() -> Path:
    """Directory of what the UI remembers between two starts (the place in each audit's queue)."""
    return platformdirs.user_state_path("labeltui")
