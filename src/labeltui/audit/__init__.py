"""One open audit: the scan's results, the decisions, and the state that follows from both.

::

    store (arrays, memory-mapped) --+
                                    +--> session.Audit --> terminal UI, command line, export
    journal.db --> decisions -------+         |
                                              +-- images       where they are now, and whether they changed
                                              +-- counts       by class: samples, flags, decisions
                                              +-- deciding     what may be decided, and what it would change
                                              +-- queue        which samples, in which order
                                              +-- evidence     why this sample
                                              +-- calibration  how well the label scores match the decisions
                                              +-- live_csg     overlaps and CSG, updated live
                                              +-- generations  results of training runs
                                              +-- overview     what ``labeltui status --json`` prints
                                              +-- sample_map   places of samples in the plane

Opening costs a few passes over arrays of one number a sample; nothing is computed per sample in Python. This
package imports neither torch nor textual. It is used from one thread, except for methods documented as thread-safe.
Decisions take effect at once in memory and are written by the journal's thread.
"""

from __future__ import annotations

from labeltui.audit.decisions import KINDS, Foreign
from labeltui.audit.evidence import Evidence, Neighbour, Vote
from labeltui.audit.overview import status
from labeltui.audit.queue import DROP, ORDERS, QueueSpec
from labeltui.audit.session import Audit
from labeltui.audit.views import (
    CLASS_ORDERS,
    Change,
    ClassRow,
    ClassTable,
    Decision,
    Opinion,
    PairRow,
    Step,
    Summary,
    WhatIf,
)

__all__ = [
    "CLASS_ORDERS",
    "DROP",
    "KINDS",
    "ORDERS",
    "Audit",
    "Change",
    "ClassRow",
    "ClassTable",
    "Decision",
    "Evidence",
    "Foreign",
    "Neighbour",
    "Opinion",
    "PairRow",
    "QueueSpec",
    "Step",
    "Summary",
    "Vote",
    "WhatIf",
    "status",
]
