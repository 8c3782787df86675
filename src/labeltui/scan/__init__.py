"""From a data set to an audit.

::

    source --> embed --> graph, duplicate groups --> CSG --> head (out of fold) --> detectors --> audit.h5
               |            |                                 |                                   journal.db
               |  scan.partial/: each batch when done, and    |                                   scan.json
               +--each long step after them-------------------+

Everything that decides the result goes into audit.h5, which is written last and in one step; everything that
may differ between two runs of the same scan goes into scan.json. `Partial` explains what survives a kill.
"""

from __future__ import annotations

from labeltui.scan.options import STORED_NEIGHBOURS, ScanOptions
from labeltui.scan.pipeline import scan
from labeltui.scan.record import Fault, ScanSummary, summary
from labeltui.scan.stages import STAGES

__all__ = ["STAGES", "STORED_NEIGHBOURS", "Fault", "ScanOptions", "ScanSummary", "scan", "summary"]
