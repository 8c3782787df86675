"""labeltui: trust an image data set's labels, from the terminal."""

from __future__ import annotations

__version__ = "0.1.0"
