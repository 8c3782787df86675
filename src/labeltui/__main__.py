"""``python -m labeltui``."""

from __future__ import annotations

from labeltui.cli import main

if __name__ == "__main__":
    main()
