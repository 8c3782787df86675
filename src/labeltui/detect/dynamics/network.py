"""The network that scores curves, and its weights. Imports torch, so import it only to score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load
from torch import nn

from labeltui import parallel
from labeltui.detect.base import Floats, Mask
from labeltui.detect.dynamics.curves import CHANNELS, Curves
from labeltui.detect.dynamics.run_features import FEATURES
from labeltui.errors import Cancelled
from labeltui.head import Dynamics
from labeltui.parallel import Progress

WEIGHTS = "weights.safetensors"
_BLOCK = 2048  # samples per batch, fixed so that the result does not depend on the number of threads


_SUMMED = tuple(CHANNELS.index(name) for name in ("odds", "margin", "all_agree", "all_odds"))


class Network(nn.Module):
    """A small LSTM over the curves and a linear model; both give the log-odds of a correct label.

    The output layer takes the LSTM's last state, its mean state, the mean of each channel and the run features. The
    latter enter only linearly: there are few training runs, and a network that combined such features would recognise
    each run.

    The linear model takes the mean odds, the AUM and the run features alone. It is less accurate on data like the
    training data, and more accurate on data unlike it.

    Parameters
    ----------
    hidden : int
        Width of the LSTM.

    Attributes
    ----------
    share : Tensor
        Weight of the linear model in the log-odds; set by the training recipe.
    """

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.lstm = nn.LSTM(len(CHANNELS), hidden, batch_first=True)
        self.out = nn.Linear(2 * hidden + len(CHANNELS) + len(FEATURES), 1)
        self.plain = nn.Linear(len(_SUMMED) + len(FEATURES), 1)
        self.share: torch.Tensor
        self.register_buffer("share", torch.zeros(()))

    def both(self, curves: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-odds (b,) of the LSTM and of the linear model, from curves (b, STEPS, 8) and features (b, 10).

        Parameters
        ----------
        curves : Tensor of float32, shape (b, STEPS, 8)
        features : Tensor of float32, shape (b, 10)

        Returns
        -------
        lstm, linear : Tensor of float32, shape (b,)
        """
        states, _ = self.lstm(curves)  # (b, STEPS, hidden)
        means = curves.mean(dim=1)
        seen = torch.cat([states[:, -1], states.mean(dim=1), means, features], dim=1)
        return self.out(seen)[:, 0], self.plain(torch.cat([means[:, _SUMMED], features], dim=1))[:, 0]

    def forward(self, curves: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Log-odds (b,) from curves (b, STEPS, 8) and features (b, 10).

        Parameters
        ----------
        curves : Tensor of float32, shape (b, STEPS, 8)
        features : Tensor of float32, shape (b, 10)

        Returns
        -------
        Tensor of float32, shape (b,)
        """
        return torch.lerp(*self.both(curves, features), self.share)


def shipped() -> Network:
    """The network with the weights of this package, trained by `data/noise_detector`."""
    return loaded(load(resources.files(__package__).joinpath(WEIGHTS).read_bytes()))


def loaded(tensors: dict[str, torch.Tensor]) -> Network:
    """The network with these weights."""
    network = Network(tensors["lstm.weight_hh_l0"].shape[1])
    network.load_state_dict(tensors)
    return network.eval()


def mean_log_odds(
    network: Network,
    records: Sequence[Dynamics],
    n_classes: int,
    threads: int | None = None,
    cancel: Callable[[], bool] | None = None,
    progress: Progress = lambda fraction: None,
) -> tuple[Mask, Floats]:
    """Return the mean over several records of the log-odds that the labels are correct.

    Parameters
    ----------
    network : Network
    records : sequence of Dynamics
        Of the same N samples; at least one.
    n_classes : int
    threads : int, optional
    cancel : callable, optional
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    usable : ndarray of bool, shape (N,)
        Samples that all records have.
    log_odds : ndarray of float32, shape (N,)
        0 where not usable.

    Raises
    ------
    Cancelled
    """
    n = len(records[0].labels)
    usable, total = np.ones(n, dtype=bool), np.zeros(n, dtype=np.float32)
    for number, record in enumerate(records):
        curves = Curves(record, n_classes)
        usable &= curves.usable
        rows = np.flatnonzero(usable)
        total[rows] += read(network, curves, rows, threads, cancel)
        progress((number + 1) / len(records))
    return usable, np.where(usable, total / len(records), np.float32(0.0))


def read(
    network: Network,
    curves: Curves,
    rows: npt.NDArray[np.int64],
    threads: int | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Floats:
    """Return the log-odds that the labels of the samples `rows` are correct.

    Blocks of a fixed size run on one thread each, so the result does not depend on the number of threads.

    Parameters
    ----------
    network : Network
    curves : Curves
    rows : ndarray of int64, shape (n,)
        Usable samples.
    threads : int, optional
    cancel : callable, optional

    Returns
    -------
    ndarray of float32, shape (n,)

    Raises
    ------
    Cancelled
    """
    out = np.empty(len(rows), dtype=np.float32)

    def block(start: int) -> None:
        if cancel is not None and cancel():
            raise Cancelled("the detectors were cancelled", "while curves were read")
        torch.set_num_threads(1)
        part = rows[start : start + _BLOCK]
        with torch.inference_mode():
            seen = torch.from_numpy(curves.read(part)), torch.from_numpy(curves.run_features.features[part])
            out[start : start + _BLOCK] = network(*seen).numpy()

    n_threads = parallel.count_threads(threads)
    before = torch.get_num_threads()
    try:
        with parallel.limit_blas(1), ThreadPoolExecutor(max_workers=n_threads) as pool:
            list(pool.map(block, range(0, len(rows), _BLOCK)))
    finally:
        torch.set_num_threads(before)
    return out
