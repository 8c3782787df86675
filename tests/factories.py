"""A small audit for every room's tests, in well under a second."""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image

from labeltui import store


def make_audit(
    directory: Path,
    n: int = 240,
    classes: int = 4,
    seed: int = 0,
    images: bool = True,
    flips: float = 0.1,
) -> Path:
    """Write an image tree (or its embeddings alone) into `directory`, audit it, and return the audit's path.

    Parameters
    ----------
    directory : Path
        Gets `data/` (one folder a class, PNG files of 16 x 16; only with `images`), `truth.npy` (n,) int32,
        the classes before flipping, and `small.audit/`.
    n, classes, seed : int
        Samples, classes, seed.
    images : bool
        Make pictures. Without them the audit holds embeddings only.
    flips : float
        Share of samples whose given label is moved to the next class.

    Returns
    -------
    Path
        ``directory / "small.audit"``.
    """
    made = _made(n, classes, seed, images, flips)
    shutil.copytree(made, directory, dirs_exist_ok=True)
    return directory / "small.audit"


@cache
def _made(n: int, classes: int, seed: int, images: bool, flips: float) -> Path:
    directory = Path(mkdtemp(prefix="labeltui-audit-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    rng = np.random.default_rng(seed)
    truth = np.sort(rng.integers(classes, size=n)).astype(np.int32)
    given = truth.copy()
    flipped = rng.choice(n, round(flips * n), replace=False)
    given[flipped] = (given[flipped] + 1) % classes
    order = np.argsort(given, kind="stable")  # the source lists its samples class by class
    truth, given = truth[order], given[order]
    np.save(directory / "truth.npy", truth)
    names = [f"class{c}" for c in range(classes)]
    ids = [f"{names[given[i]]}/{i:05}.png".encode() for i in range(n)]
    centres = rng.integers(40, 216, size=(classes, 4, 4, 3))
    pixels = np.clip(centres[truth] + rng.normal(0, 25, (n, 4, 4, 3)), 0, 255).astype(np.uint8)
    if images:
        for i in range(n):
            path = directory / "data" / ids[i].decode()
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[i]).resize((16, 16), Image.Resampling.NEAREST).save(path)
    _write(directory / "small.audit", pixels, given, ids, names, directory / "data" if images else None)
    return directory


def _write(
    audit: Path, pixels: np.ndarray, given: np.ndarray, ids: list[bytes], names: list[str], root: Path | None
) -> None:
    n, classes, csg_k = len(ids), len(names), 10
    k = min(50, n - 1)
    embedding = pixels.reshape(n, -1).astype(np.float32) - 128
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    indices = np.argsort(-cosine, axis=1, kind="stable")[:, :k].astype(np.int32)
    similarity = np.take_along_axis(cosine, indices, axis=1).astype(np.float32)
    near = indices[:, :csg_k]
    holders = [np.flatnonzero((near == i).any(axis=1)) for i in range(n)]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.repeat(given, near.shape[1]), given[near].ravel()), 1)
    s = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    w = np.minimum(s[:, None, :], s[None, :, :]).sum(-1)
    laplacian = np.diag(w.sum(1)) - w
    eigenvalues, _ = np.linalg.eigh(laplacian)
    votes = np.zeros((n, classes))
    np.add.at(votes, (np.repeat(np.arange(n), near.shape[1]), given[near].ravel()), 1)
    p = (votes + 0.1) / (votes + 0.1).sum(1, keepdims=True)
    best = np.argsort(-p, axis=1, kind="stable")[:, :5]
    label = np.full((n, 5), -1, np.int32)
    chance = np.zeros((n, 5), np.float32)
    label[:, : best.shape[1]] = best
    chance[:, : best.shape[1]] = np.take_along_axis(p, best, axis=1)
    score = p[np.arange(n), given].astype(np.float32)
    gaps = np.diff(eigenvalues) / (classes - np.arange(classes - 1))
    csg = float(np.maximum.accumulate(gaps).sum()) if classes > 1 else 0.0
    arrays = {
        **store.pack_names("samples/id", ids),
        **store.pack_names("classes/id", [name.encode() for name in names]),
        **store.pack_names("classes/name", [name.encode() for name in names]),
        **store.pack_names("splits/name", []),
        "samples/split": np.full(n, -1, np.int16),
        "samples/sha256": np.zeros((n, 32), np.uint8),
        "samples/pixels": np.zeros((n, 32), np.uint8),
        "samples/status": np.zeros(n, np.uint8),
        "labels/given": given.astype(np.int32),
        "embeddings/pixels": embedding,
        "graph/pixels/indices": indices,
        "graph/pixels/similarity": similarity,
        "graph/pixels/rev_indptr": np.r_[0, np.cumsum([len(h) for h in holders])].astype(np.int64),
        "graph/pixels/rev_indices": np.concatenate(holders).astype(np.int32),
        "groups/duplicate": np.arange(n, dtype=np.int32),
        "csg/T": counts,
        "csg/S": s,
        "csg/W": w,
        "csg/eigenvalues": eigenvalues,
        "csg/overlap": w.sum(1) - np.diag(w),
        "csg/self_share": np.diag(s).copy(),
        "csg/spectral_share": np.zeros(classes),
        "csg/present": np.ones(classes, bool),
        "csg/reliable": np.ones(classes, bool),
        "scores/neighbours": score,
        "scores/head": score,
        "scores/blend": score,
        "suggest/label": label,
        "suggest/p": chance,
    }
    attrs: dict[str, dict[str, store.Attribute]] = {
        "": store.audit_attrs(),
        "embeddings": {"default": "pixels"},
        "embeddings/pixels": {"model": "pixels"},
        "graph/pixels": {"metric": "cosine", "k": k, "csg_k": csg_k, "backend": "exact", "exact": True},
        "csg": {"csg": csg, "k": csg_k, "embedding": "pixels"},
        "scores": {"detectors": ["neighbours", "head"]},
    }
    audit.mkdir()
    digest = store.write_h5(audit / store.AUDIT_FILE, arrays, attrs)
    kind = "folder" if root else "arrays"
    store.write_json(
        audit / store.SCAN_FILE,
        {"version": "test", "sha256": digest, "root": str(root or ""), "source": {"kind": kind}},
    )
