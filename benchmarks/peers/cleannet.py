"""The published CleanNet (Lee et al., CVPR 2018), as it stands in its paper and code, to be measured against.

Per class 32 k-means centres; reference encoder 512 tanh -> 256 tanh -> attention against a learned context -> 128
tanh; query auto-encoder d-256-128-256-d, tanh; their cosine. SGD with momentum 0.9, 32 verified and 32 unverified
samples a step. Only the number of steps is not the published one (60,000): `steps` are run, with the same fall of the
learning rate by ten at half of them, and `cleannet.py` prints the error at several numbers to show that it has settled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torch.nn.functional import cosine_similarity, linear, relu

Floats = NDArray[np.float32]

CENTRES = 32
MARGIN = 0.1  # cosine at and above which a label is taken to be right
ACCEPT = (0.1, 0.15, 0.2)  # the thresholds that the authors name
STEPS = 3000


@dataclass(frozen=True)
class Constants:
    """The published constants."""

    reference: tuple[int, int, int] = (512, 256, 128)
    query: tuple[int, int] = (256, 128)
    batch: int = 32
    rate: float = 0.01
    momentum: float = 0.9
    decay: float = 1e-4
    wrong_weight: float = 5.0
    reconstruction: float = 0.1
    unverified: float = 0.1


def published(
    X: NDArray[np.floating],
    labels: NDArray[np.integer],
    n_classes: int,
    verified_rows: NDArray[np.integer],
    verified_right: NDArray[np.bool_],
    seed: int = 0,
    steps: int = STEPS,
    watch: Callable[[int, Floats], None] | None = None,
    every: int = 0,
) -> Floats:
    """Train CleanNet and compare each sample with the class of its given label.

    Parameters
    ----------
    X : ndarray, shape (N, d)
        Embeddings; each row is scaled to length 1.
    labels : ndarray of int, shape (N,)
        Given labels, 0..K-1.
    n_classes : int
    verified_rows : ndarray of int, shape (V,)
        Samples whose label somebody looked at.
    verified_right : ndarray of bool, shape (V,)
        What was found: right or wrong.
    seed : int
    steps : int
        The published number is 60,000.
    watch, every : optional
        ``watch(step, cosine)`` is called after each `every` steps.

    Returns
    -------
    ndarray of float32, shape (N,)
        Cosine of the sample's code and its label's, -1..1: high = the label fits.
    """
    spec, rng = Constants(), np.random.default_rng(seed)
    x = np.asarray(X, dtype=np.float32)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    given = np.asarray(labels).astype(np.int64)
    references = torch.from_numpy(_references(x, given, n_classes, seed))
    z, y = torch.from_numpy(x), torch.from_numpy(given)
    weights = _initial(x.shape[1], spec, rng)
    decayed = [value for name, value in weights.items() if not name.startswith("b")]
    free = [value for name, value in weights.items() if name.startswith("b")]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": spec.decay}, {"params": free}],
        lr=spec.rate,
        momentum=spec.momentum,
    )
    right, wrong = verified_rows[verified_right], verified_rows[~verified_right]
    verified = np.concatenate([right, wrong])
    truth = torch.from_numpy(np.arange(len(verified)) < len(right))
    unverified = np.setdiff1d(np.flatnonzero(given >= 0), verified_rows)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = spec.rate * (0.1 if step >= steps // 2 else 1.0)
        chosen = rng.integers(0, len(verified), spec.batch)
        rows = np.concatenate([verified[chosen], rng.choice(unverified, spec.batch)])
        q = _query(weights, z[rows])
        decoded = _decoded(weights, q)
        cos = cosine_similarity(q, _classes(weights, references)[y[rows]], dim=1)
        error = ((decoded - z[rows]) ** 2).sum(dim=1)
        good = torch.cat([truth[torch.from_numpy(chosen)], cos[spec.batch :].detach() >= MARGIN])
        loss = torch.where(good, 1.0 - cos, spec.wrong_weight * relu(cos - MARGIN))
        loss = loss + spec.reconstruction * error
        total = loss[: spec.batch].mean() + spec.unverified * loss[spec.batch :].mean()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()
        if watch is not None and every and (step + 1) % every == 0:
            watch(step + 1, _all(weights, references, z, y))
    return _all(weights, references, z, y)


def _references(x: Floats, labels: NDArray[np.int64], n_classes: int, seed: int) -> Floats:
    """k-means centres of each class (K, 32, d); a class with fewer members repeats them."""
    found = np.zeros((n_classes, CENTRES, x.shape[1]), dtype=np.float32)
    for label in range(n_classes):
        members = x[labels == label]
        if not len(members):
            continue
        if len(members) <= CENTRES:
            found[label] = members[np.arange(CENTRES) % len(members)]
            continue
        means = MiniBatchKMeans(CENTRES, random_state=seed, batch_size=1024, n_init=1).fit(members)
        found[label] = means.cluster_centers_
    return found


def _initial(d: int, spec: Constants, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Glorot's uniform initialisation; biases and context as TensorFlow's layers begin."""
    a, b, c = spec.reference
    e, f = spec.query
    shapes = {
        "r1": (a, d),
        "r2": (b, a),
        "r3": (c, b),
        "q1": (e, d),
        "q2": (f, e),
        "q3": (e, f),
        "q4": (d, e),
    }
    weights: dict[str, torch.Tensor] = {}
    for name, (rows, columns) in shapes.items():
        bound = (6.0 / (rows + columns)) ** 0.5
        weights[name] = torch.from_numpy(rng.uniform(-bound, bound, (rows, columns)).astype(np.float32))
        weights[f"b{name}"] = torch.zeros(rows)
    weights["context"] = torch.from_numpy(rng.normal(0.0, 0.1, b).astype(np.float32))
    return {name: value.requires_grad_() for name, value in weights.items()}


def _classes(w: dict[str, torch.Tensor], references: torch.Tensor) -> torch.Tensor:
    """Codes of the classes, (K, 128)."""
    h = linear(references, w["r1"], w["br1"]).tanh()  # (K, 32, 512)
    h = linear(h, w["r2"], w["br2"]).tanh()  # (K, 32, 256)
    share = torch.softmax(h @ w["context"], dim=1)  # (K, 32)
    return linear((share[:, :, None] * h).sum(dim=1), w["r3"], w["br3"]).tanh()


def _query(w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Codes of samples, (n, 128)."""
    return linear(linear(x, w["q1"], w["bq1"]).tanh(), w["q2"], w["bq2"]).tanh()


def _decoded(w: dict[str, torch.Tensor], code: torch.Tensor) -> torch.Tensor:
    """What the decoder makes of codes, (n, d)."""
    return linear(linear(code, w["q3"], w["bq3"]).tanh(), w["q4"], w["bq4"])


def _all(w: dict[str, torch.Tensor], references: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> Floats:
    with torch.no_grad():
        classes = _classes(w, references)
        parts = [
            cosine_similarity(_query(w, z[i : i + 4096]), classes[y[i : i + 4096]], dim=1)
            for i in range(0, len(z), 4096)
        ]
        return torch.cat(parts).numpy()
