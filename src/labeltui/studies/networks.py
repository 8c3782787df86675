"""Small networks and their training, on one thread, the same bytes for the same arguments.

The data set of a training run is a list of (sample, label) pairs, so that a sample may come with many labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import UsageError
from labeltui.text import safe

if TYPE_CHECKING:
    import torch
    from torch import nn

NETWORKS = ("linear", "mlp", "cnn")
PREDICT_BATCH = 1024
WEIGHT_DECAY = 1e-4
WARMUP = 0.1  # fraction of the steps in which the learning rate rises
SHIFT = 1 / 14  # of an image's side: 2 pixels of 28

Check = Callable[[], None]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    network : str
        One of `NETWORKS`. Linear and MLP take flat vectors, the convolutional net images.
    steps : int
        Optimiser steps (AdamW, linear warm-up, then cosine).
    batch : int
        Pairs of a step.
    learning_rate : float
        Peak.
    label_smoothing : float
        Over all classes.
    seed : int
        Of weights, batches and shifts.
    """

    network: str
    steps: int
    batch: int = 128
    learning_rate: float = 1e-3
    label_smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise UsageError(f"a network must be one of {', '.join(NETWORKS)}", f"got {safe(self.network)}")


def fit_predict(
    inputs: NDArray[np.generic],
    rows: NDArray[np.integer],
    labels: NDArray[np.number],
    test: NDArray[np.integer],
    n_classes: int,
    recipe: Recipe,
    check: Check = lambda: None,
) -> NDArray[np.float32]:
    """Train a network on pairs and predict other samples.

    Parameters
    ----------
    inputs : ndarray, shape (N, d) float32 or (N, C, H, W) uint8
    rows : ndarray of int, shape (M,)
        Sample of each pair.
    labels : ndarray of int, shape (M,), or of float, shape (M, K)
        Label of each pair, or its distribution: a pair then stands for as many as it has labels.
    test : ndarray of int, shape (n,)
        Samples to predict.
    n_classes : int
    recipe : Recipe
    check : callable
        Called after each step; may raise to stop.

    Returns
    -------
    ndarray of float32, shape (n, K)
        Probabilities.
    """
    import torch
    from torch.nn.functional import cross_entropy

    before, n_threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(recipe.seed)
        rng = np.random.default_rng([recipe.seed, recipe.steps, recipe.batch])
        prepare = _preparation(inputs, np.unique(rows))
        model = _network(recipe.network, inputs.shape[1:], n_classes)
        optimiser = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=WEIGHT_DECAY)
        soft = np.ndim(labels) == 2
        target = torch.from_numpy(np.asarray(labels, dtype=np.float32 if soft else np.int64))
        order, at = rng.permutation(len(rows)), 0
        model.train()
        for step in range(recipe.steps):
            if at + recipe.batch > len(order):
                order, at = rng.permutation(len(rows)), 0
            pairs = order[at : at + recipe.batch]
            at += len(pairs)
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * _schedule((step + 1) / recipe.steps)
            x = prepare(rows[pairs])
            if recipe.network == "cnn":
                x = _shifted(x, rng)
            loss = cross_entropy(model(x), target[pairs], label_smoothing=recipe.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            check()
        model.eval()
        parts = [test[start : start + PREDICT_BATCH] for start in range(0, len(test), PREDICT_BATCH)]
        with torch.inference_mode():
            found = [model(prepare(part)).softmax(dim=1).numpy() for part in parts]
        return np.concatenate([np.zeros((0, n_classes), np.float32), *found])
    finally:
        torch.set_rng_state(before)
        torch.set_num_threads(n_threads)


def _schedule(done: float) -> float:
    if done < WARMUP:
        return done / WARMUP
    return 0.5 * (1.0 + math.cos(math.pi * (done - WARMUP) / (1.0 - WARMUP)))


def _preparation(
    inputs: NDArray[np.generic], rows: NDArray[np.integer]
) -> Callable[[NDArray[np.integer]], torch.Tensor]:
    """Return what centres the inputs and gives them unit variance, both measured on `rows`."""
    import torch

    sample = inputs[rows[:: max(1, len(rows) // 10_000)]].astype(np.float32)
    mean = sample.mean(axis=0) if inputs.ndim == 2 else sample.mean(axis=(0, 2, 3), keepdims=True)[0]
    scale = max(float((sample - mean).std()), 1e-6)

    def prepare(index: NDArray[np.integer]) -> torch.Tensor:
        return torch.from_numpy((inputs[index].astype(np.float32) - mean) / np.float32(scale))

    return prepare


def _shifted(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Move a batch of images by one random offset, zeros (the mean) beyond the edge."""
    import torch

    reach = max(1, round(SHIFT * x.shape[-1]))
    down, right = (int(v) for v in rng.integers(-reach, reach + 1, size=2))
    moved = torch.zeros_like(x)
    h, w = x.shape[-2:]
    moved[..., max(0, down) : h + min(0, down), max(0, right) : w + min(0, right)] = x[
        ..., max(0, -down) : h + min(0, -down), max(0, -right) : w + min(0, -right)
    ]
    return moved


def _network(name: str, shape: tuple[int, ...], n_classes: int) -> nn.Module:
    from torch import nn

    if name == "linear":
        linear = nn.Linear(shape[0], n_classes)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        return linear
    if name == "mlp":
        return nn.Sequential(nn.Linear(shape[0], 256), nn.ReLU(), nn.Dropout(0.25), nn.Linear(256, n_classes))
    channels, side = shape[0], shape[1]
    layers: list[nn.Module] = []
    if side > 16:
        layers = [
            nn.Conv2d(channels, 16, 5, stride=2, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    else:  # such as the digits of scikit-learn, 8 x 8
        layers = [nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(
        *layers,
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(32 * 16, n_classes),
    )
