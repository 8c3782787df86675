"""Rows of `detection.py` that are what others do, on the same embeddings, labels, neighbours and probabilities."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _common import peer
from _measures import Row
from _ours import Arrays, Stage
from _worlds import World
from labeltui.detect import confident
from peers import simifeat
from peers.consensus import MOST_CLASSES, consensus

Floats = NDArray[np.floating]
Found = tuple[dict[str, Row], dict[str, Any]]
SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
PRUNING = ("prune_by_class", "prune_by_noise_rate", "both", "confident_learning", "predicted_neq_given")
K_NEAREST = 10


def cleanlab(stage: Stage) -> Found:
    """Every score and pruning rule, from the head's probabilities and from those of our best head."""
    rows: dict[str, Row] = {}
    for source, p in (("head", stage.head["p"]), ("corrected head", stage.findings["corrected"])):
        rows |= cleanlab_of(stage.world, p, source)
    return rows, {}


def cleanlab_of(world: World, p: Floats, source: str) -> dict[str, Row]:
    rank, find = peer("cleanlab.rank", "cleanlab"), peer("cleanlab.filter", "cleanlab")
    q = p.astype(np.float64)
    q /= q.sum(axis=1, keepdims=True)
    rows = {}
    for method in SCORES:
        begin = time.process_time()
        score = rank.get_label_quality_scores(world.labels, q, method=method)
        rows[f"cleanlab {method}, {source}"] = Row(score, seconds=time.process_time() - begin)
    for rule in PRUNING:
        begin = time.process_time()
        flags = find.find_label_issues(world.labels, q, filter_by=rule, n_jobs=1)
        seconds = time.process_time() - begin
        corrected = np.where(flags, q.argmax(axis=1), world.labels).astype(np.int32)
        rows[f"cleanlab {rule}, {source}"] = Row(flags=flags, corrected=corrected, seconds=seconds)
    return rows


def logistic(stage: Stage) -> Found:
    """cleanlab as its guide says: out-of-fold logistic regression, on the head's folds."""
    kept = stage.kept("logistic regression", regress, (), stage.world, stage.fold)
    return cleanlab_of(stage.world, kept["p"], "logistic regression"), {"seconds": float(kept["seconds"])}


def regress(world: World, fold: NDArray[np.int8]) -> Arrays:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, labels = world.images.X, world.labels
    p = np.zeros((len(X), world.n_classes), dtype=np.float32)
    for k in np.unique(fold):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100, tol=1e-3))
        model.fit(X[fold != k], labels[fold != k])
        p[fold == k] = model.predict_proba(X[fold == k])
    return {"p": p}


def datalab(stage: Stage) -> Found:
    """cleanlab's Datalab from features alone, its own neighbours included."""
    kept = stage.kept("Datalab", audit, (), stage.world)
    flags = kept["flags"]
    corrected = np.where(flags, kept["predicted"], stage.world.labels).astype(np.int32)
    return {"Datalab from features": Row(kept["score"], flags, corrected, seconds=float(kept["seconds"]))}, {}


def datalab_installed() -> bool:
    """Whether Datalab can be imported: cleanlab ships it, and it needs `datasets` beside."""
    return importlib.util.find_spec("datasets") is not None


def audit(world: World) -> Arrays:
    lab = peer("cleanlab", "cleanlab[datalab]").Datalab({"y": world.labels}, label_name="y", verbosity=0)
    lab.find_issues(features=world.images.X, issue_types={"label": {"k": K_NEAREST}})
    found = lab.get_issues("label")
    return {
        "score": found["label_score"].to_numpy(),
        "flags": found["is_label_issue"].to_numpy(),
        "predicted": found["predicted_label"].to_numpy(),
    }


def votes(stage: Stage) -> Found:
    """Neighbours' labels by plain counting: kNN and SimiFeat's two rules."""
    world = stage.world
    begin = time.process_time()
    near = world.labels[world.images.indices[:, :K_NEAREST]]
    shares = np.stack([(near == c).mean(axis=1) for c in range(world.n_classes)], axis=1)
    counting = time.process_time() - begin
    best = shares.argmax(axis=1).astype(np.int32)
    margin = confident.margins(shares.astype(np.float32), world.labels)
    voted = simifeat.by_vote(shares, world.labels)
    rows = {
        "kNN proportion": Row(shares[np.arange(len(shares)), world.labels], seconds=counting),
        "kNN margin": Row(margin, best != world.labels, best, seconds=counting),
        "SimiFeat-V": Row(flags=voted, corrected=np.where(voted, best, world.labels), seconds=counting),
    }
    if world.n_classes <= MOST_CLASSES:
        begin = time.process_time()
        transition, prior = consensus(world.labels, world.images.indices, world.n_classes)
        flags = simifeat.by_rank(shares, world.labels, transition, prior)
        seconds = counting + time.process_time() - begin
        rows["SimiFeat-R"] = Row(flags=flags, corrected=np.where(flags, best, world.labels), seconds=seconds)
    return rows, {}


def dynamics(stage: Stage) -> Found:
    """What people read from training curves without a model: of the head's run, so the same run as the head's row."""
    record, seconds = stage.head, float(stage.head["seconds"])
    margin = record["margin"].astype(np.float32)
    events = (record["top"] != record["labels"]).mean(axis=0)
    p = np.exp(record["log_p"].astype(np.float32))
    # Squared length of p - onehot(y), early in training: sum p^2 - 2 p_y + 1.
    early = slice(0, max(1, len(p) // 3))
    length = (record["sum_squares"].astype(np.float32)[early] - 2 * p[early] + 1).mean(axis=0)
    right = record["top"] == record["labels"]
    forgotten = (right[:-1] & ~right[1:]).sum(axis=0) + ~right.any(axis=0) * len(right)
    rows = {
        "AUM": Row(margin.mean(axis=0), seconds=seconds),
        # Few epochs give many ties; the margin breaks them.
        "wrong events": Row(-events + 1e-6 * margin.mean(axis=0), seconds=seconds),
        "forgetting events": Row(-forgotten + 1e-6 * margin.mean(axis=0), seconds=seconds),
        "EL2N": Row(-length, seconds=seconds),
    }
    return rows, {}


def centroid(stage: Stage) -> Found:
    """Cosine to the own class's centroid, the sample itself left out, less the largest other one."""
    world = stage.world
    begin = time.process_time()
    x = world.images.X - world.images.X.mean(axis=0)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    sums = np.stack([x[world.labels == c].sum(axis=0) for c in range(world.n_classes)])
    similar = x @ (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).T
    own = sums[world.labels] - x
    similar[np.arange(len(x)), world.labels] = (own * x).sum(axis=1) / np.maximum(
        np.linalg.norm(own, axis=1), 1e-12
    )
    best = similar.argmax(axis=1).astype(np.int32)
    score = confident.margins(similar.astype(np.float32), world.labels)
    return {"centroid": Row(score, best != world.labels, best, seconds=time.process_time() - begin)}, {}
