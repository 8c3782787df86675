"""An audit with every kind of decision, for all tests of exporters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labeltui.audit import Audit
from tests.factories import make_audit


@pytest.fixture
def reviewed(tmp_path: Path) -> Iterator[Audit]:
    """120 images of 3 classes; two reviewers, of whom the second decided one sample again."""
    path = make_audit(tmp_path, n=120, classes=3)
    with Audit.open(path, reviewer='ada, "the" first') as audit:
        q = audit.queue().tolist()
        audit.decide([q[0]], "relabel", label=int(audit.suggested[q[0], 0]), note="sure, ñ\nyes")
        audit.decide([q[1]], "exclude")
        audit.decide([q[2]], "ambiguous", second=(int(audit.given[q[2]]) + 1) % 3)
        audit.decide([q[3]], "keep")
        audit.decide([q[4]], "unsure")
        audit.note(q[5], "look again")
    with Audit.open(path, reviewer="bob") as audit:
        audit.decide([q[0]], "keep")
        audit.decide([q[0]], "relabel", label=int(audit.suggested[q[0], 0]))
        yield audit
