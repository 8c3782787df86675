"""Worlds to learn from: data whose right labels are known, injected errors, and a network trained on the result.

A world is drawn from its number alone. What varies: the features (scikit-learn's digits in several views, Gaussian
classes of many numbers, dimensions and overlaps), the number of classes (2..100), the noise (six kinds, 5..60 %),
and the network (width, dropout, label smoothing, learning rate, batch, epochs; one in twelve is a small
convolutional net).

Each sample is there twice: as a scene, which a person sees, and as features, which the network sees and which know
less. Features and person find the same scenes hard, for reasons that are not all the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from labeltui import head, noise
from labeltui.train.dynamics import Recorder

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]

FOLDS = 2
LARGE = 12_000  # samples, from which on a scan's head is the only network
AGAIN = 10  # times that each digit is there where they are many
MOST = {  # kind of noise -> largest share of wrong labels
    "symmetric": 0.6,
    "pair_flip": 0.42,
    "confusable": 0.5,
    "feature_dependent": 0.5,
    "matched": 0.45,
    "person": 0.45,
}
BY = {  # kind of noise -> what it follows
    "symmetric": "chance",
    "feature_dependent": "chance",  # by projections that mean nothing
    "pair_flip": "class",
    "confusable": "class",
    "matched": "sample",
    "person": "sample",
}


@dataclass(frozen=True)
class World:
    """One world.

    Attributes
    ----------
    name : str
        What it was made of.
    kind, features : str
        Its kind of noise; "digits" or "Gaussian classes".
    record : Dynamics
    wrong : ndarray of bool, shape (N,)
    n_classes : int
    """

    name: str
    kind: str
    features: str
    record: head.Dynamics
    wrong: npt.NDArray[np.bool_]
    n_classes: int


def make(number: int) -> World:
    """Make world `number`; the same number gives the same world."""
    rng = np.random.default_rng([2026, number])
    convolutional = number % 12 == 7
    digits = convolutional or rng.random() < 0.4
    x, scene, truth, name = _digits(rng, convolutional) if digits else _gaussians(rng)
    labels, kind, rate = _injected(x, scene, truth, rng)
    n_classes = int(truth.max()) + 1
    if convolutional:
        record, network = _convolutional(x, labels, n_classes, number, rng)
    else:
        spec = _head(rng, len(x))
        fold = head.folds(labels, None, None, FOLDS, number)
        made = head.out_of_fold(
            x, labels, fold, n_classes, spec=spec, seed=number, dynamics=True, device="cpu"
        )
        assert made.dynamics is not None
        record = made.dynamics
        network = f"head {spec.hidden} dropout {spec.dropout} smoothing {spec.label_smoothing}"
    name = f"{name}, {len(x)} x {n_classes} classes, {kind} {rate:.0%}, {network}, {len(record.log_p)} epochs"
    features = "digits" if digits else "Gaussian classes"
    return World(name, kind, features, record, labels != truth, n_classes)


# ---------------------------------------------------------------------------------------------------- features


def _digits(rng: np.random.Generator, pixels: bool) -> tuple[Floats, Floats, Labels, str]:
    """Features, scenes (the pixels), classes, and a name."""
    data = load_digits()
    scene = x = (data.data / 16).astype(np.float32)
    truth = data.target.astype(np.int64)
    if not pixels and rng.random() < 0.3:
        scene, truth = _again(x, truth, rng)
        x = scene
    view = "pixels" if pixels else str(rng.choice(["pixels", "blurred", "random features", "half", "noisy"]))
    if view == "blurred":
        image = x.reshape(-1, 8, 8)
        x = (image[:, ::2, ::2] + image[:, 1::2, ::2] + image[:, ::2, 1::2] + image[:, 1::2, 1::2]).reshape(
            len(x), -1
        )
    elif view == "random features":
        width = int(rng.choice([32, 128, 512]))
        x = np.maximum(x @ rng.normal(size=(64, width)).astype(np.float32) - 0.5, 0.0)
    elif view == "half":
        x = x.reshape(-1, 8, 8)[:, :, : int(rng.integers(3, 6))].reshape(len(x), -1)
    elif view == "noisy":
        x = x + rng.normal(scale=rng.uniform(0.2, 0.6), size=x.shape).astype(np.float32)
    classes = str(rng.choice(["all", "all", "some", "parts"]))
    if classes == "some":
        chosen = rng.choice(10, size=int(rng.integers(2, 9)), replace=False)
        keep = np.isin(truth, chosen)
        x, scene, truth = x[keep], scene[keep], np.searchsorted(np.sort(chosen), truth[keep])
    elif classes == "parts":  # each digit in several hands
        parts = int(rng.integers(2, 5))
        hand = np.zeros(len(x), dtype=np.int64)
        for digit in range(10):
            rows = np.flatnonzero(truth == digit)
            means = KMeans(parts, n_init=1, random_state=int(rng.integers(1 << 30)))
            hand[rows] = means.fit_predict(scene[rows])
        truth = truth * parts + hand
    return np.ascontiguousarray(x), scene, truth.astype(np.int32), f"digits {view}"


def _again(
    x: Floats, truth: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Many digits out of few: each is mixed with another of its class, in changing shares, and blurred a little."""
    other = np.empty((AGAIN, len(x)), dtype=np.int64)
    for digit in range(10):
        rows = np.flatnonzero(truth == digit)
        other[:, rows] = rng.choice(rows, size=(AGAIN, len(rows)))
    share = rng.uniform(0.4, 1.0, size=(AGAIN, len(x), 1)).astype(np.float32)
    mixed = share * x + (1.0 - share) * x[other]
    mixed += rng.normal(scale=0.1, size=mixed.shape).astype(np.float32)
    return mixed.reshape(-1, x.shape[1]), np.tile(truth, AGAIN)


def _gaussians(rng: np.random.Generator) -> tuple[Floats, Floats, Labels, str]:
    """Classes that come in families, each of several clusters, with samples of unequal difficulty.

    The blur is such that nearest centres would know .55 to .98 of the features' classes.
    """
    n_classes = int(rng.choice([2, 3, 5, 10, 10, 10, 20, 50, 100]))
    d = int(rng.choice([16, 32, 64, 128, 256]))
    n = max(int(rng.choice([2000, 4000, 8000, 16_000, 32_000])), 40 * n_classes)
    families = max(1, round(n_classes / rng.uniform(1, 5)))
    modes = int(rng.integers(1, 4))
    # Of a class's own centre, and of what it shares with its family and its clusters do not share.
    centre = rng.normal(size=(families, d))[rng.integers(0, families, n_classes)] * rng.uniform(0.3, 1.5)
    centre = (
        centre[:, None]
        + rng.normal(size=(n_classes, 1, d))
        + rng.uniform(0, 0.7) * rng.normal(size=(n_classes, modes, d))
    )
    prior = rng.dirichlet(np.full(n_classes, rng.choice([3.0, 100.0])))
    truth = rng.choice(n_classes, size=n, p=prior)
    truth[: 4 * n_classes] = np.repeat(np.arange(n_classes), 4)
    at = centre[truth, rng.integers(0, modes, n)]
    # A hard sample is far from its centre: the spread of difficulty is what makes curves cross.
    spread = rng.uniform(0.1, 0.6)
    own, lost = (np.exp(rng.normal(scale=spread, size=(n, 1))) * rng.normal(size=(n, d)) for _ in range(2))
    stretch = np.exp(rng.normal(scale=0.5, size=d))
    share = rng.uniform(0.3, 0.9)  # of the blur, what a person sees too
    own, lost = math.sqrt(share) * stretch * own, math.sqrt(1.0 - share) * stretch * lost
    blur = _blur(at, own + lost, stretch, centre, truth, rng.uniform(0.55, 0.98))
    x, scene = at + blur * (own + lost), at + blur * own
    if rng.random() < 0.5:  # as after a network's last ReLU
        x = np.maximum(x @ rng.normal(size=(d, 2 * d)) / math.sqrt(d), 0.0)
    return x.astype(np.float32), scene.astype(np.float32), truth.astype(np.int32), f"gaussians {d}-d"


def _blur(
    at: Doubles,
    noise: Doubles,
    stretch: Doubles,
    centre: Doubles,
    truth: npt.NDArray[np.int64],
    wanted: float,
) -> float:
    """Factor of the noise at which the nearest centre knows the share `wanted` of the classes."""
    _, modes, d = centre.shape
    known = (centre / stretch).reshape(-1, d)
    rows = slice(0, 1500)

    def accuracy(factor: float) -> float:
        x = (at[rows] + factor * noise[rows]) / stretch
        distance = (known**2).sum(axis=1) - 2.0 * x @ known.T
        nearest: float = (distance.argmin(axis=1) // modes == truth[rows]).mean()
        return nearest

    low, high = 0.0, 64.0
    for _ in range(16):
        middle = (low + high) / 2.0
        low, high = (middle, high) if accuracy(middle) > wanted else (low, middle)
    return low


# ---------------------------------------------------------------------------------------------------- noise


def _injected(x: Floats, scene: Floats, truth: Labels, rng: np.random.Generator) -> tuple[Labels, str, float]:
    kind = str(rng.choice([*MOST, "person"]))
    n_classes = int(truth.max()) + 1
    rate = float(rng.uniform(0.05, min(MOST[kind], 0.75 * (n_classes - 1) / n_classes)))
    seed = int(rng.integers(1 << 30))
    if kind == "symmetric":
        return noise.symmetric(truth, rate, seed, n_classes).labels, kind, rate
    if kind == "pair_flip":
        return noise.pair_flip(truth, rate, seed, n_classes).labels, kind, rate
    if kind == "feature_dependent":
        return noise.feature_dependent(truth, x, rate, seed, n_classes).labels, kind, rate
    seen = scene if kind == "person" else x
    p = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(seen, truth).predict_proba(seen)
    p = p ** rng.uniform(0.3, 1.0) + 1e-6
    p /= p.sum(axis=1, keepdims=True)
    if kind == "person":  # who now and then does not look
        careless = rng.uniform(0.0, 0.3)
        p = (1.0 - careless) * p + careless / n_classes
    alike = np.stack([p[truth == label].mean(axis=0) for label in range(n_classes)])
    if kind == "confusable":
        return noise.confusable(truth, alike, rate, seed).labels, kind, rate
    return noise.matched(truth, noise.scaled(alike, truth, rate), p, seed).labels, kind, rate


# ---------------------------------------------------------------------------------------------------- networks


def _head(rng: np.random.Generator, n: int) -> head.HeadSpec:
    if n >= LARGE or rng.random() < 0.5:
        # As a scan trained it when the weights were made: a later default must not change them.
        return head.HeadSpec(hidden=512, dropout=0.5, epochs=8, components=256, precision="float32")
    return head.HeadSpec(
        hidden=int(rng.choice([64, 128, 256, 512])),
        dropout=float(rng.choice([0.0, 0.25, 0.5])),
        label_smoothing=float(rng.choice([0.0, 0.1])),
        epochs=int(rng.integers(5, 31)),
        batch=int(rng.choice([32, 128, 512])),
        learning_rate=float(rng.choice([1e-3, 3e-3, 6e-3])),
        components=384,
        precision="float32",
    )


def _convolutional(
    x: Floats, labels: Labels, n_classes: int, seed: int, rng: np.random.Generator
) -> tuple[head.Dynamics, str]:
    """A small convolutional net that sees every sample and, given time, learns every label by heart."""
    epochs, width, rate = int(rng.integers(8, 25)), int(rng.choice([8, 16])), float(rng.choice([1e-3, 3e-3]))
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, width, 3, padding=1), torch.nn.BatchNorm2d(width), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(width, 2 * width, 3, padding=1), torch.nn.BatchNorm2d(2 * width), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(8 * width, n_classes),
    )  # fmt: skip
    images, y = torch.from_numpy(x).view(-1, 1, 8, 8), torch.from_numpy(labels).long()
    steps = math.ceil(len(x) / 64)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3 * rate, total_steps=epochs * steps)
    recorder = Recorder(np.ones(len(x), dtype=bool), torch.device("cpu"))
    values, tops = [], []
    for _ in range(epochs):
        for index in torch.from_numpy(rng.permutation(len(x))).chunk(steps):
            logits = net(images[index])
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(logits, y[index]).backward()
            optimiser.step()
            schedule.step()
            recorder.note(index, logits, y[index])
        now = recorder.tensors()
        values.append(now["values"][:, :-1].numpy().copy())
        tops.append(now["top"][:-1].numpy().copy())
    log_p, margin, top_p, squares = np.stack(values, axis=1)
    return head.Dynamics(log_p, margin, np.stack(tops), top_p, squares, labels), f"convolutional {width}"
