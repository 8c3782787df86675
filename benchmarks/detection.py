"""How well an audit's scores find wrong labels, beside cleanlab and a neighbour vote on the same embeddings.

    python benchmarks/detection.py my.audit truth.csv

truth.csv has the columns path, given and clean: the clean labels measure, nothing here is chosen by them. Every row
scores the same samples. cleanlab gets the very out-of-fold probabilities that the audit's head gave (trained again
here by the scan's recorded settings, which gives the same bytes). A wrong label is a positive; scores are low = bad.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import labeltui
from _common import Report, parser, peer, version
from labeltui import head
from labeltui.store import OK, Store

Floats = NDArray[np.float64]
SOURCE = Path(labeltui.__file__).parent
K_NEAREST = 10
METRICS = ("AUROC", "AP", "F1@k", "precision at 1 %")


def truth_of(audit: Store, path: Path) -> NDArray[np.int32]:
    """Clean labels by sample, matched by path; -1 where the table has none."""
    number = {name: index for index, name in enumerate(audit.class_ids)}
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = {os.fsencode(row["path"]): os.fsencode(row["clean"]) for row in csv.DictReader(file)}
    found = [number.get(rows.get(name, b""), -1) for name in audit.ids]
    if max(found) < 0:
        sys.exit(f"{path} names no sample of {audit.path}: its paths must be those of the audit")
    return np.array(found, dtype=np.int32)


def head_probabilities(audit: Store, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The out-of-fold probabilities behind the audit's head score."""
    options = audit.scan["options"]
    fold = head.folds(audit.given, audit.array("groups/duplicate"), inside, options["folds"], options["seed"])
    return head.out_of_fold(
        audit.embedding(),
        audit.given,
        fold,
        len(audit.class_ids),
        spec=head.HeadSpec(**options["head"]),
        seed=options["seed"],
        device=options["embed"]["device"],
    ).p


def neighbour_votes(audit: Store, k: int) -> Floats:
    """Share of each class among the k nearest others, by plain counting."""
    indices = audit.array(f"graph/{audit.embedding_name}/indices")[:, :k]
    labels = np.where(indices >= 0, audit.given[indices], -1)
    return np.stack([(labels == c).mean(axis=1) for c in range(len(audit.class_ids))], axis=1)


def margin(p: Floats, labels: NDArray[np.int32]) -> Floats:
    """Share of the given label less the largest other one."""
    rows = np.arange(len(p))
    own = p[rows, labels]
    rest = p.copy()
    rest[rows, labels] = -np.inf
    return own - rest.max(axis=1)


def measure(score: Floats, wrong: NDArray[np.bool_]) -> dict[str, float]:
    """The figures of one score."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    order = np.argsort(score, kind="stable")
    hits = wrong[order]
    return {
        "AUROC": float(roc_auc_score(wrong, -score)),
        "AP": float(average_precision_score(wrong, -score)),
        "F1@k": float(hits[: wrong.sum()].mean()),  # as many flags as errors: precision = recall = F1
        "precision at 1 %": float(hits[: max(1, len(hits) // 100)].mean()),
    }


def rows(audit: Store, known: NDArray[np.bool_], inside: NDArray[np.bool_]) -> dict[str, Floats]:
    """Scores by name: ours by their dataset, peers by who made them."""
    rank = peer("cleanlab.rank", "cleanlab")
    p = head_probabilities(audit, inside)
    given = audit.given[known]
    scores = {f"labeltui {name}": audit.array(f"scores/{name}")[known] for name in audit.names_in("scores")}
    again = p[known][np.arange(len(given)), given]
    stored = scores["labeltui head"]
    if np.abs(again - stored).max() > 1e-4:
        sys.exit(
            "the head trained here differs from the audit's: was it scanned by this version and machine?"
        )
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        scores[f"cleanlab {method}"] = rank.get_label_quality_scores(
            given, p[known].astype(np.float64), method=method
        )
    votes = neighbour_votes(audit, K_NEAREST)[known]
    scores[f"kNN k={K_NEAREST} share"] = votes[np.arange(len(given)), given]
    scores[f"kNN k={K_NEAREST} margin"] = margin(votes, given)
    return scores


def run(audit: Store, truth: Path) -> dict[str, Any]:
    """All rows of one audit."""
    clean = truth_of(audit, truth)
    inside = (audit.status == OK) & (audit.array(f"graph/{audit.embedding_name}/indices")[:, 0] >= 0)
    known = inside & (clean >= 0) & (audit.given >= 0)
    wrong = clean[known] != audit.given[known]
    best = audit.array("suggest/label")[known, 0]
    flagged = best != audit.given[known]
    return {
        "samples": int(known.sum()),
        "wrong": float(wrong.mean()),
        "flags": {
            "number": int(flagged.sum()),
            "precision": float(wrong[flagged].mean()) if flagged.any() else 0.0,
            "recall": float(flagged[wrong].mean()) if wrong.any() else 0.0,
        },
        "rows": {name: measure(score, wrong) for name, score in rows(audit, known, inside).items()},
    }


def print_rows(found: dict[str, Any]) -> None:
    """The table of figures, best AP first."""
    flags = found["flags"]
    print(
        f"{found['samples']:,} samples, {found['wrong']:.2%} of the labels wrong; {flags['number']:,} flags,"
    )
    print(f"{flags['precision']:.1%} of them right, {flags['recall']:.1%} of the wrong labels flagged\n")
    width = max(len(name) for name in found["rows"])
    print(f"{'score':<{width}}  " + "  ".join(f"{name:>16}" for name in METRICS))
    for name, figures in sorted(found["rows"].items(), key=lambda row: -row[1]["AP"]):
        print(f"{name:<{width}}  " + "  ".join(f"{figures[metric]:16.4f}" for metric in METRICS))
    print()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("audit", type=Path)
    options.add_argument("truth", type=Path)
    arguments: argparse.Namespace = options.parse_args()
    report = Report("detection", arguments)
    with Store.open(arguments.audit, 0) as audit:
        found = report.cell(
            f"scores of {arguments.audit.name}",
            lambda: run(audit, arguments.truth),
            SOURCE / "head",
            arguments.truth,
            audit=audit.uuid,
        )
    print_rows(found)
    table = found["rows"]
    peers = {name: figures for name, figures in table.items() if not name.startswith("labeltui ")}
    rival = max(peers, key=lambda name: peers[name]["AP"])
    report.add(
        f"AP of the blended score on {arguments.audit.name}, against the best peer",
        table["labeltui blend"]["AP"],
        "AP",
        target=float(f"{peers[rival]['AP']:.4g}"),
        peer=f"{rival} ({version('cleanlab')})",
        detail=found,
    )
    report.finish()


if __name__ == "__main__":
    main()
