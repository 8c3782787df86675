"""The metric of neighbours: chosen for ready embeddings, named, and followed by votes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from labeltui import graph
from labeltui.audit import Audit
from labeltui.errors import UsageError
from labeltui.metric import choose_metric, uncentred
from labeltui.scanning import ScanOptions, scan, summary
from labeltui.store import Store
from tests.factories import HEAD


def points(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two-dimensional clusters, some behind others as seen from the origin: features, labels of which 10 % are wrong,
    and which ones."""
    rng = np.random.default_rng(0)
    centres = np.array([[2, 0], [6, 0], [10, 1], [4, 4], [9, 6]])
    truth = np.arange(n) % 5
    features = (centres[truth] + rng.normal(0, 0.7, (n, 2))).astype(np.float32)
    wrong = np.zeros(n, bool)
    wrong[rng.choice(n, n // 10, replace=False)] = True
    return features, np.where(wrong, (truth + 1) % 5, truth).astype(np.int32), wrong


def test_points_in_a_plane_get_the_euclidean_metric(tmp_path: Path) -> None:
    features, labels, wrong = points()
    np.savez(tmp_path / "p.npz", embeddings=features, labels=labels)
    precision = {}
    for name, metric in (("asked", "cosine"), ("chosen", None)):
        path = tmp_path / f"{name}.audit"
        scan(tmp_path / "p.npz", path, ScanOptions(head=HEAD, metric=metric))
        with Store.open(path) as store:
            precision[name] = average_precision_score(wrong, 1 - store.array("scores/neighbours"))
            attrs = store.attrs(f"graph/{store.embedding_name}")
            similarity = store.array(f"graph/{store.embedding_name}/similarity")
        assert attrs["metric"] == ("cosine" if metric else "euclidean")
        assert (np.diff(similarity, axis=1) <= 0).all()
        assert 0 <= similarity.min() <= similarity.max() <= 1
    assert precision["chosen"] > precision["asked"] + 0.2
    assert any("by the euclidean metric" in note for note in summary(tmp_path / "chosen.audit").notes)
    with Audit.open(tmp_path / "chosen.audit", read_only=True) as audit:
        votes = [{v.detector: v.proposes for v in audit.evidence(i).votes} for i in range(60)]
        agree = [votes[i]["neighbours"] == labels[i] for i in range(60)]
        nearest = graph.build(features, 50, "euclidean").indices[0]
        assert [near.index for near in audit.evidence(0).neighbours] == nearest[:10].tolist()
        assert np.mean(agree) > 0.7
    recorded = json.loads((tmp_path / "asked.audit" / "scan.json").read_text())
    assert recorded["options"]["metric"] == "cosine"


def test_directions_keep_the_cosine() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(300) % 3).astype(np.int32)
    features = np.eye(8)[labels] + rng.normal(0, 0.3, (300, 8))
    features *= rng.uniform(0.1, 10, (300, 1))  # the length says nothing
    metric, note = choose_metric(features.astype(np.float32), labels, np.ones(300, bool), 10, 1)
    assert metric == "cosine"
    assert "by the cosine metric" in note


@pytest.mark.parametrize("metric", ["euclidean", "inner_product"])
def test_relative_similarities_do_not_depend_on_the_unit(metric: str) -> None:
    features = points()[0]
    small, large = (graph.relative_similarity(graph.build(features * unit, 20, metric)) for unit in (1, 1024))
    assert np.allclose(small, large, atol=1e-4)
    assert np.allclose(small[:, -1], 0.8)


def test_embeddings_that_are_not_centred_are_noted() -> None:
    features, inside = points()[0], np.ones(400, bool)
    assert uncentred(features - features.mean(axis=0), inside) == ""
    assert "not centred" in uncentred(features + 100, inside)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UsageError, match="cosine, euclidean, inner"):
        ScanOptions(metric="manhattan")
