"""One cell of a study: noise, training, measures; a function of the data and the cell's parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labeltui.studies.correction import label_cell
from labeltui.studies.data import Rows, StudyData
from labeltui.studies.injection import class_overlap
from labeltui.studies.networks import NETWORKS, Check, Recipe, fit_predict
from labeltui.studies.plan import INFINITE, Cell, StudySpec
from labeltui.train.predictions import measure

Arrays = Mapping[str, NDArray[Any]]
Result = dict[str, Any]
_DILUTION = 1705  # random streams
_WHITE = 10694
_FRACTION = 31


class Backbone(Protocol):
    """Fine-tunes a timm network on labels (N,), -1 = not trained on."""

    def __call__(
        self, network: str, labels: NDArray[np.int32], seed: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], str]:
        """Return classes and their probabilities of the test samples, and what the initial weights were."""


def run_cell(
    spec: StudySpec,
    cell: Cell,
    data: StudyData,
    *,
    labels_of: Callable[[str, int], Arrays],
    backbone: Backbone | None = None,
    check: Check = lambda: None,
) -> tuple[Result, Arrays]:
    """Compute a cell.

    Parameters
    ----------
    spec : StudySpec
    cell : dict
        From `StudySpec.cells`.
    data : StudyData
    labels_of : callable
        Returns the arrays of the label cell of a noise and a seed.
    backbone : callable, optional
        For timm networks.
    check : callable
        Called often; may raise to stop.

    Returns
    -------
    result : dict
        JSON values.
    arrays : mapping of str to ndarray
        For later cells.
    """
    if spec.study == "correction":
        if "condition" not in cell:
            return label_cell(spec, cell, data)
        labels = np.full(len(data.labels), -1, np.int32)
        labels[data.train] = labels_of(cell["noise"], cell["seed"])[cell["condition"]]
        if cell["network"] not in NETWORKS:
            assert backbone is not None
            predicted, confidence, weights = backbone(cell["network"], labels, cell["seed"])
            return {**_measured(data, predicted, confidence), "weights": weights}, {}
        rows = data.train[labels[data.train] >= 0]
        recipe = Recipe(cell["network"], spec.steps, spec.batch, spec.learning_rate, seed=cell["seed"])
        return _trained(data, data.inputs(cell["network"]), rows, labels[rows], recipe, check), {}
    work = {"dilution": _dilution, "structure": _structure, "batch": _batch}[spec.study]
    return work(spec, cell, data, check), {}


def diluted(
    labels: NDArray[np.int32],
    n_classes: int,
    alpha: int,
    seed: int,
    noise: NDArray[np.float64] | None = None,
) -> NDArray[np.int32]:
    """Return each sample's own label and `alpha` noisy ones, (n, 1 + alpha).

    Parameters
    ----------
    labels : ndarray of int32, shape (n,)
    n_classes : int
    alpha : int
    seed : int
    noise : ndarray of float64, shape (K, K), optional
        P(noisy label j | label i); by default uniform over all classes, the own one included.
    """
    rng = np.random.default_rng([_DILUTION, seed])
    if noise is None:
        noisy = rng.integers(n_classes, size=(len(labels), alpha))
    else:
        edges = np.cumsum(noise, axis=1)[labels]  # (n, K)
        point = rng.random((len(labels), alpha)) * edges[:, -1:]
        noisy = (point[:, :, None] >= edges[:, None, :]).sum(axis=2)
    return np.concatenate([labels[:, None], noisy.astype(np.int32)], axis=1)


def frequencies(labels: NDArray[np.int32], n_classes: int) -> NDArray[np.float32]:
    """Return how often each class occurs in each row of `labels`, as a fraction, (n, K)."""
    counts = np.zeros((len(labels), n_classes), np.float32)
    np.add.at(counts, (np.arange(len(labels))[:, None], labels), 1.0)
    return np.asarray(counts / np.float32(labels.shape[1]))


def structured_noise(
    labels: NDArray[np.int32], n_classes: int, indices: NDArray[np.int32], alpha: int, delta: float
) -> NDArray[np.float64]:
    """Return the distribution of noisy labels of each class, (K, K): uniform, and skewed toward overlapping classes.

    The skewed part follows the class overlap W of the CSG. With `delta` 0 there is none; at 1 it is as large as makes
    the most frequent wrong label of a class as frequent as the right one, so that plurality is lost beyond (if alpha
    is large enough: the skewed part cannot exceed all noisy labels).

    Parameters
    ----------
    labels : ndarray of int32, shape (n,)
    n_classes : int
    indices : ndarray of int32, shape (n, k)
        Neighbours.
    alpha : int
        Noisy labels beside each clean one.
    delta : float
    """
    skew = class_overlap(labels, n_classes, indices) * (1.0 - np.eye(n_classes))
    total = skew.sum(axis=1, keepdims=True)
    uniform = np.full((n_classes, n_classes), 1.0 / n_classes)
    others = (1.0 - np.eye(n_classes)) / max(n_classes - 1, 1)  # of a class that overlaps with none
    skew = np.where(total > 0, skew / np.maximum(total, 1e-12), others)
    # Right and most frequent wrong label: 1 + alpha (1 - w) / K = alpha ((1 - w) / K + w max).
    tie = 1.0 / np.maximum(alpha * skew.max(axis=1, keepdims=True), 1e-12)
    weight = np.minimum(delta * tie, 1.0)
    return np.asarray((1.0 - weight) * uniform + weight * skew)


def _dilution(spec: StudySpec, cell: Cell, data: StudyData, check: Check) -> Result:
    rows = data.train
    if cell["fraction"] < 1.0:
        rng = np.random.default_rng([_FRACTION, cell["seed"]])
        rows = np.sort(rng.permutation(rows)[: max(data.n_classes, round(cell["fraction"] * len(rows)))])
    labels = diluted(data.labels[rows], data.n_classes, cell["alpha"], cell["seed"])
    result = _trained(
        data,
        data.inputs(cell["network"]),
        rows,
        frequencies(labels, data.n_classes),
        _recipe(spec, cell),
        check,
    )
    return {**result, "clean_samples": len(rows)}


def _structure(spec: StudySpec, cell: Cell, data: StudyData, check: Check) -> Result:
    alpha, seed, K = cell["alpha"], cell["seed"], data.n_classes
    clean, recipe, inputs = data.labels[data.train], _recipe(spec, cell), data.inputs(cell["network"])
    if cell["kind"] == "confusable":
        noise = structured_noise(clean, K, data.neighbours, alpha, cell["delta"])
        expected = (np.eye(K) + alpha * noise) / (1.0 + alpha)
        np.fill_diagonal(others := expected.copy(), -np.inf)
        gap = float((np.diag(expected) - others.max(axis=1))[np.unique(clean)].min())
        targets = frequencies(diluted(clean, K, alpha, seed, noise), K)
        return {
            **_trained(data, inputs, data.train, targets, recipe, check),
            "plurality_gap": round(gap, 6),
        }
    if cell["kind"] == "white noise":
        noisy = _white(inputs, data.train, alpha * len(data.train), seed)
    else:
        strange = data.strange_inputs(cell["network"])
        if strange is None:
            return {"skipped": "no out-of-vocabulary samples were named (--other)"}
        draw = np.random.default_rng([_WHITE, seed]).integers(len(strange), size=alpha * len(data.train))
        noisy = strange[draw]
    labels = np.random.default_rng([_DILUTION, seed]).integers(K, size=len(noisy)).astype(np.int32)
    rows = np.concatenate([data.train, len(inputs) + np.arange(len(noisy))])
    both = np.concatenate([inputs, noisy.astype(inputs.dtype)])
    return _trained(data, both, rows, np.concatenate([clean, labels]), recipe, check)


def _batch(spec: StudySpec, cell: Cell, data: StudyData, check: Check) -> Result:
    alpha, K = cell["alpha"], data.n_classes
    clean, inputs = data.labels[data.train], data.inputs(cell["network"])
    labels_seen = spec.steps * spec.batch
    size = spec.batch if cell["batch"] == INFINITE else cell["batch"]
    # The infinite batch: every sample with the expectation of its labels, which is label smoothing.
    smoothing = alpha / (1.0 + alpha) if cell["batch"] == INFINITE else 0.0
    steps = max(1, labels_seen // size)
    recipe = Recipe(cell["network"], steps, size, cell["learning_rate"], smoothing, cell["seed"])
    if cell["batch"] == INFINITE:
        return _trained(data, inputs, data.train, clean, recipe, check)
    labels = diluted(clean, K, alpha, cell["seed"])
    return _trained(data, inputs, np.repeat(data.train, 1 + alpha), labels.ravel(), recipe, check)


def _recipe(spec: StudySpec, cell: Cell) -> Recipe:
    return Recipe(cell["network"], spec.steps, spec.batch, spec.learning_rate, seed=cell["seed"])


def _white(inputs: NDArray[Any], train: Rows, count: int, seed: int) -> NDArray[Any]:
    """Random inputs: pixels uniform in 0..255, features normal with the mean and variance of the training samples."""
    rng = np.random.default_rng([_WHITE, seed])
    if inputs.dtype == np.uint8:
        return np.asarray(rng.integers(256, size=(count, *inputs.shape[1:]), dtype=np.uint8))
    mean, spread = inputs[train].mean(axis=0), inputs[train].std(axis=0)
    normal = rng.standard_normal((count, inputs.shape[1]), dtype=np.float32)
    return np.asarray(mean + spread * normal, dtype=np.float32)


def _trained(
    data: StudyData,
    inputs: NDArray[Any],
    rows: NDArray[np.integer],
    labels: NDArray[Any],
    recipe: Recipe,
    check: Check,
) -> Result:
    p = fit_predict(inputs, rows, labels, data.test, data.n_classes, recipe, check)
    return _measured(data, p.argmax(axis=1), p.max(axis=1))


def _measured(data: StudyData, predicted: NDArray[np.integer], confidence: NDArray[np.float32]) -> Result:
    found = measure(data.labels[data.test], predicted, confidence, data.n_classes)
    present = found.confusion.sum(axis=1) > 0
    return {
        **found.summary(),
        "precision": round(float(found.precision[present].mean()), 6),
        "recall": round(float(found.recall[present].mean()), 6),
        "confusion": found.confusion.tolist(),
    }
