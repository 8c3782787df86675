"""One open audit: what the scan found, what people decided, and what follows from both at this moment.

::

    store (arrays, memory-mapped) --+
                                    +--> session.Audit --> terminal UI, command line, export
    journal.db --> ledger ----------+         |
                                              +-- queue         which samples, in which order
                                              +-- evidence      why this sample
                                              +-- calibration   how far P(label right) is to be believed
                                              +-- complexities  overlaps and CSG, followed live
                                              +-- generations   results of training runs

Opening costs a few passes over arrays of one number a sample; nothing is made per sample in Python. This
package knows no screen and loads neither torch nor textual. One thread calls it; what other threads may call
says so. Decisions take effect at once in memory and are written by the journal's thread.
"""

from __future__ import annotations

from labeltui.audit.evidence import Evidence, Neighbour, Vote
from labeltui.audit.ledger import KINDS
from labeltui.audit.queue import DROP, ORDERS, QueueSpec
from labeltui.audit.session import Audit
from labeltui.audit.views import (
    CLASS_ORDERS,
    Change,
    ClassRow,
    ClassTable,
    Decision,
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
    "Neighbour",
    "PairRow",
    "QueueSpec",
    "Step",
    "Summary",
    "Vote",
    "WhatIf",
]
