"""labeltui: trust an image data set's labels, from the terminal and from Python.

The public names are loaded when they are first used: importing the package costs next to nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"

_HOMES = {
    "Audit": "labeltui.api",
    "CumulativeSpectralGradient": "labeltui.estimator",
    "LabelIssues": "labeltui.issues",
    "find_label_issues": "labeltui.issues",
    "knn_graph": "labeltui.api",
    "open_audit": "labeltui.api",
    "scan": "labeltui.api",
}

__all__ = [
    "Audit",
    "CumulativeSpectralGradient",
    "LabelIssues",
    "__version__",
    "find_label_issues",
    "knn_graph",
    "open_audit",
    "scan",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
