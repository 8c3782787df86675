"""Worlds to measure detection in: embeddings with right labels, and labels made wrong by people or by one noise model.

Everyone gets the same embeddings, labels and neighbours. Right labels plant noise and measure, and do nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeltui import csg, graph, noise

Floats = NDArray[np.floating]
Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]

# The first three are those with a target.
NOISE = (
    ("symmetric", 0.4),
    ("pair-flip", 0.4),
    ("feature-dependent", 0.4),
    ("symmetric", 0.2),
    ("symmetric", 0.6),
    ("symmetric", 0.8),
    ("pair-flip", 0.2),
    ("class-dependent", 0.4),
    ("feature-dependent", 0.2),
)
TARGETED = 3
HUMAN = "people"


@dataclass(frozen=True)
class Images:
    """Embeddings and right labels, before any label is made wrong.

    Attributes
    ----------
    name : str
        Of the data set.
    X : ndarray of float32, shape (N, d)
    clean : ndarray of int32, shape (N,)
    indices, similarity : ndarray, shape (N, k)
        Neighbours by cosine.
    human : dict of str to ndarray of int32
        Labels that people gave, by name.
    """

    name: str
    X: Floats
    clean: Ints
    indices: Ints
    similarity: Floats
    human: dict[str, Ints]

    @cached_property
    def digest(self) -> str:
        """Stands for the content."""
        digest = hashlib.sha256()
        for array in (self.X, self.clean, self.indices, self.similarity):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class World:
    """Images and the labels in doubt.

    Attributes
    ----------
    images : Images
    kind : str
        A noise model, or the name of labels that people gave.
    rate : float
        Share of the labels that the model made wrong; 0 for people's.
    labels : ndarray of int32, shape (N,)
    seed : int
        Of the noise, and of everyone who draws.
    """

    images: Images
    kind: str
    rate: float
    labels: Ints
    seed: int

    @property
    def name(self) -> str:
        rate = f" {self.rate:.0%}" if self.rate else ""
        return f"{self.images.name} {self.kind}{rate}"

    @property
    def n_classes(self) -> int:
        return int(self.images.clean.max()) + 1

    @property
    def wrong(self) -> Mask:
        return self.labels != self.images.clean

    @cached_property
    def digest(self) -> str:
        """Stands for the content and the seed."""
        return hashlib.sha256(
            f"{self.images.digest} {self.seed}".encode() + self.labels.tobytes()
        ).hexdigest()


def add_options(found: argparse.ArgumentParser) -> None:
    """Add the options by which a benchmark is given real features: see `given`."""
    found.add_argument("--name", default="features", help="what the data set is called in the table")
    found.add_argument("--features", type=Path, help="embeddings, .npy, (N, d)")
    found.add_argument("--clean", type=Path, help="right labels, .npy, (N,)")
    found.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="labels that people gave, .npy; may be repeated; named by the file if not otherwise",
    )
    found.add_argument(
        "--neighbours", type=Path, nargs=2, metavar=("INDICES", "SIMILARITY"), help="found if not given"
    )


def named(chosen: argparse.Namespace) -> dict[str, Path]:
    """People's labels by name, as `--labels` gives them."""
    pairs = (each.split("=", 1) for each in chosen.labels)
    return {pair[0] if len(pair) == 2 else Path(pair[0]).stem: Path(pair[-1]) for pair in pairs}


def given(chosen: argparse.Namespace) -> Images | None:
    """The features that the options name; None, and a word, without any."""
    if chosen.features and chosen.clean:
        near = chosen.neighbours
        return images(
            chosen.name,
            np.ascontiguousarray(np.load(chosen.features), dtype=np.float32),
            np.load(chosen.clean).astype(np.int32),
            {name: np.load(path).astype(np.int32) for name, path in named(chosen).items()},
            None if near is None else (np.load(near[0]).astype(np.int32), np.load(near[1])),
        )
    print("without --features and --clean only what scikit-learn ships is measured", file=sys.stderr)
    return None


def digits() -> Images:
    """The handwritten digits that ship with scikit-learn; their pixels are the embedding."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return images("digits", (data.data / 16).astype(np.float32), data.target.astype(np.int32))


def images(
    name: str,
    X: Floats,
    clean: Ints,
    human: dict[str, Ints] | None = None,
    neighbours: tuple[Ints, Floats] | None = None,
) -> Images:
    """Return images; neighbours are found where none are given."""
    if neighbours is None:
        made = graph.build(X, k=min(50, len(X) - 1))
        neighbours = made.indices, made.similarity
    return Images(name, X, clean, *neighbours, human or {})


def part(whole: Images, count: int, seed: int) -> Images:
    """A seeded sample of the images, named as such."""
    rows = np.sort(np.random.default_rng(seed).choice(len(whole.clean), count, replace=False))
    human = {key: labels[rows] for key, labels in whole.human.items()}
    return images(f"{whole.name} ({count:,})", whole.X[rows], whole.clean[rows], human)


def worlds(of: Images, seed: int, noise_kinds: tuple[tuple[str, float], ...] = NOISE) -> Iterator[World]:
    """People's labels first, then planted ones."""
    for key, labels in of.human.items():
        yield World(of, key, 0.0, labels, seed)
    for kind, rate in noise_kinds:
        yield World(of, kind, rate, plant(of, kind, rate, seed), seed)


def plant(of: Images, kind: str, rate: float, seed: int) -> Ints:
    """Labels with one kind of noise."""
    clean, k = of.clean, int(of.clean.max()) + 1
    if kind == "symmetric":
        return noise.symmetric(clean, rate, seed, k).labels
    if kind == "pair-flip":
        return noise.pair_flip(clean, rate, seed, k).labels
    if kind == "class-dependent":
        near = np.ascontiguousarray(of.indices[:, :10])
        counts = csg.pooled_counts(near, clean, k, 10)
        alike = csg.complexity(counts, csg.class_sizes(near, clean, k), 10).W
        return noise.confusable(clean, np.asarray(alike), rate, seed).labels
    if kind == "feature-dependent":
        return noise.feature_dependent(clean, of.X, rate, seed, k).labels
    raise ValueError(kind)
