"""What ``labeltui status --json`` prints."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from labeltui.audit.session import Audit
from labeltui.text import safe


def status(audit: Audit, jobs: Sequence[Mapping[str, object]] = ()) -> dict[str, Any]:
    """Describe an audit: samples, classes, CSG, flags, decisions, runs.

    Parameters
    ----------
    audit : Audit
    jobs : sequence of mappings
        The training jobs, as `labeltui.train` describes them.

    Returns
    -------
    dict
        Values that JSON can hold; text from data is escaped.
    """
    summary = audit.summary()
    ends = audit.spectrum_ends()
    path = shlex.quote(safe(str(audit.path)))
    return {
        "audit": safe(str(audit.path)),
        "format": audit.format,
        "samples": audit.n,
        "not_ok": audit.not_ok(),
        "classes": [
            {
                "id": safe(row.id),
                "name": row.name,
                "samples": row.samples,
                "flags": row.flagged,
                "overlap": row.overlap,
                "self_similarity": row.self_similarity,
                "reviewed": row.reviewed,
            }
            for row in audit.class_rows()
        ],
        "csg": {
            "value": audit.solve_csg() if summary.csg_stale else summary.csg,
            "k": audit.csg_k,
            "embedding": audit.embedding_name,
            "trace": audit.mean_overlap(),
            "partial": None if ends is None else dict(zip(("low", "high"), ends, strict=True)),
        },
        "graph": audit.graph_facts(),
        "flags": summary.flagged,
        "decisions": audit.decisions(),
        "calibration": audit.calibration(),
        "smoke_test": audit.smoke_test,
        "synthetic": audit.synthetic,
        "changed_files": audit.images.changed_files(),
        "generation": audit.generation,
        "jobs": [dict(job) for job in jobs],
        "next": f"labeltui review {path}" if summary.flags else f"labeltui export {path} -o labels.csv",
    }
