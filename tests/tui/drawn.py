"""An audit written number by number, so that its screens look the same on every machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from labeltui import paths, store
from labeltui.io.atomic import write_json
from labeltui.io.h5_writer import Attribute, write_h5
from labeltui.io.names import pack_names
from labeltui.journal import create

NAMES = ("cat", "dog", "bird", "[red]x", "漢字", "a very long name of a class")


def draw_audit(directory: Path, n: int = 90) -> Path:
    """Write images and an audit of `n` samples in six classes; returns the audit's path."""
    classes, k = len(NAMES), 10
    rng = np.random.default_rng(7)
    given = np.sort(np.arange(n) % classes).astype(np.int32)
    flagged = np.arange(n) % 4 == 1
    top = np.where(flagged, (given + 1 + np.arange(n) % 2) % classes, given)
    labels = ((top[:, None] + np.arange(5)) % classes).astype(np.int32)
    near = (np.arange(n)[:, None] + np.arange(1, k + 1) * np.where(flagged, 15, 1)[:, None]) % n
    indices = near.astype(np.int32)
    holders = [np.flatnonzero((indices == i).any(1)) for i in range(n)]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.repeat(given, k), given[indices.ravel()]), 1)
    share = counts / counts.sum(1, keepdims=True)
    overlap = np.minimum(share[:, None], share[None]).sum(2)
    score = np.where(flagged, (np.arange(n) % 40) / 100, 0.6 + (np.arange(n) % 40) / 100).astype(np.float32)
    groups = np.arange(n, dtype=np.int32)
    groups[20] = groups[40] = groups[0]  # copies with three labels
    images = rng.integers(0, 255, (n, 2, 2, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    digests = [np.frombuffer(hashlib.sha256(image.tobytes()).digest(), np.uint8) for image in images]
    names = [name.encode() for name in NAMES]
    ids = [f"train/{NAMES[given[i]]}/{i:05}.png".encode() for i in range(n)]
    arrays = {
        **pack_names("samples/id", ids),
        **pack_names("classes/id", names),
        **pack_names("classes/name", names),
        **pack_names("splits/name", [b"train"]),
        "samples/split": np.zeros(n, np.int16),
        "samples/sha256": np.stack(digests),
        "samples/pixels": np.zeros((n, 32), np.uint8),
        "samples/status": np.zeros(n, np.uint8),
        "labels/given": given,
        "embeddings/drawn": np.ones((n, 2), np.float32),
        "graph/drawn/indices": indices,
        "graph/drawn/similarity": np.tile(np.linspace(0.95, 0.5, k, dtype=np.float32), (n, 1)),
        "graph/drawn/rev_indptr": np.r_[0, np.cumsum([len(held) for held in holders])].astype(np.int64),
        "graph/drawn/rev_indices": np.concatenate(holders).astype(np.int32),
        "groups/duplicate": groups,
        "csg/T": counts,
        "csg/S": share,
        "csg/W": overlap,
        "csg/eigenvalues": np.arange(classes, dtype=np.float64),
        "csg/overlap": overlap.sum(1) - np.diag(overlap),
        "csg/self_similarity": np.diag(share).copy(),
        "csg/spectral_contribution": np.zeros(classes),
        "csg/present": np.ones(classes, bool),
        "csg/reliable": np.ones(classes, bool),
        "csg/sizes": np.bincount(given, minlength=classes),
        "csg/interval": np.array([1.1, 1.4]),
        "scores/neighbours": score,
        "scores/head": score,
        "scores/blend": score,
        "suggest/label": labels,
        "suggest/p": np.tile(np.array([0.81, 0.1, 0.05, 0.03, 0.01], np.float32), (n, 1)),
    }
    attrs: dict[str, dict[str, Attribute]] = {
        "": store.audit_attrs(),
        "embeddings": {"default": "drawn"},
        "embeddings/drawn": {"model": "drawn"},
        "graph/drawn": {"metric": "cosine", "k": k, "csg_k": k, "backend": "drawn", "exact": True},
        "csg": {"csg": 1.25, "k": k, "embedding": "drawn"},
    }
    audit = directory / "drawn.audit"
    audit.mkdir()
    digest = write_h5(audit / paths.AUDIT_FILE, arrays, attrs)
    np.save(directory / "images.npy", images)
    source = {"kind": "arrays", "file": "images.npy", "image_store": "array", "array_key": None}
    write_json(
        audit / paths.SCAN_FILE,
        {"version": "test", "sha256": digest, "root": str(directory), "source": source},
    )
    opened = store.Store.open(audit)
    create(audit, opened.uuid)
    opened.close()
    return audit
