"""Corrected labels in the formats that other programs read.

::

    audit --correct--> Corrections --one of EXPORTERS--> a file, or a directory

`Corrections` are the labels now: reviewed, and where asked for corrected automatically. An exporter writes them, with
every decision, in one format: it is one file of this package with a `write` function, and an entry in `EXPORTERS`.
One contract test holds for all of them. Whatever the format, the result appears complete or not at all, replaces
nothing without being told to, and never a part of the audit or of its source.

Importing this package loads no library of any format; an exporter that needs one imports it when it writes.
"""

from __future__ import annotations

from labeltui.export.corrections import COLUMNS, Corrections, Exported
from labeltui.export.registry import EXPORTERS, Exporter, export, write

__all__ = ["COLUMNS", "EXPORTERS", "Corrections", "Exported", "Exporter", "export", "write"]
