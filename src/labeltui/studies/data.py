"""What the cells of a study work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui import graph
from labeltui.errors import UsageError

Rows = NDArray[np.int64]
NEIGHBOURS = 10


@dataclass(frozen=True, eq=False)
class StudyData:
    """Samples with labels that are taken for right.

    Attributes
    ----------
    labels : ndarray of int32, shape (N,)
        The reference: noise is injected into those of `train`, and accuracy measured by those of `test`.
    n_classes : int
    train, test : ndarray of int64
        Samples with a label.
    features : ndarray of float32, shape (N, d)
        Embedding; rows of `train` and `test` are finite.
    images : callable
        Returns the images, (N, C, H, W) uint8, black where not in `train` or `test`; raises where there are none.
    second : ndarray of float32, shape (N, d'), optional
        Another embedding, for CSG.
    strangers : ndarray of float32, shape (M, d), optional
        Embeddings of out-of-vocabulary samples.
    strange_images : ndarray of uint8, shape (M, C, H, W), optional
        Images of out-of-vocabulary samples.
    given : ndarray of int32, shape (N,), optional
        Labels with the noise that they came with; for the noise ``none``.
    """

    labels: NDArray[np.int32]
    n_classes: int
    train: Rows
    test: Rows
    features: NDArray[np.float32] = field(repr=False)
    images: Callable[[], NDArray[np.uint8]] | None = field(default=None, repr=False)
    second: NDArray[np.float32] | None = field(default=None, repr=False)
    strangers: NDArray[np.float32] | None = field(default=None, repr=False)
    strange_images: NDArray[np.uint8] | None = field(default=None, repr=False)
    given: NDArray[np.int32] | None = None

    def inputs(self, network: str) -> NDArray[Any]:
        """Return what a network is fed with: images for the convolutional net, the embedding for the others.

        Raises
        ------
        UsageError
            There are no images.
        """
        return self._pixels if network == "cnn" else self.features

    def strange_inputs(self, network: str) -> NDArray[Any] | None:
        """Return out-of-vocabulary inputs of a network, if there are any."""
        return self.strange_images if network == "cnn" else self.strangers

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        if self.images is None:
            raise UsageError(
                "the network cnn needs images", "this audit holds embeddings", "choose linear or mlp"
            )
        return self.images()

    @cached_property
    def neighbours(self) -> NDArray[np.int32]:
        """Neighbours of the training samples among themselves in `features`, (n, 10)."""
        return self._graph(self.features)

    @cached_property
    def second_neighbours(self) -> NDArray[np.int32] | None:
        """The same in the second embedding."""
        return None if self.second is None else self._graph(self.second)

    def _graph(self, features: NDArray[np.float32]) -> NDArray[np.int32]:
        rows = np.ascontiguousarray(features[self.train])
        return graph.build(rows, min(NEIGHBOURS, len(rows) - 1), threads=1).indices
