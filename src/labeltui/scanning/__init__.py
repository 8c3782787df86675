"""From a data set to an audit.

::

    source --> embed --> graph, duplicate groups --> CSG --> head (out of fold) --> detectors --> audit.h5
               |            |                                 |                                   journal.db
               |  scan.partial/: each batch when done, and    |                                   scan.json
               +--each long step after them-------------------+

Everything that decides the result goes into audit.h5, which is written last and in one step; everything that
may differ between two runs of the same scan goes into scan.json. `Checkpoint` explains what survives a kill.
"""

from __future__ import annotations

from labeltui.scanning.options import ScanOptions
from labeltui.scanning.record import Fault, ScanSummary, summary, update_counts
from labeltui.scanning.scan import scan
from labeltui.scanning.stages import STAGES
from labeltui.scanning.update import recorded_options

__all__ = [
    "STAGES",
    "Fault",
    "ScanOptions",
    "ScanSummary",
    "recorded_options",
    "scan",
    "summary",
    "update_counts",
]
