"""The network that reads curves, and its weights. Imports torch: load it when curves are to be read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load
from torch import nn

from labeltui import threads as _threads
from labeltui.detect.base import Floats
from labeltui.detect.dynamics.curves import CHANNELS, Curves
from labeltui.errors import Cancelled

WEIGHTS = "weights.safetensors"
_BLOCK = 2048  # samples at a time, whatever the number of threads: the bytes follow from the block


class Network(nn.Module):
    """A small LSTM over the curves; what it gives is the log-odds of a right label.

    It is read at its last step and on the mean over all steps, so that neither the end of training nor its
    whole course is lost, and beside it the mean of each channel (the second is close to the AUM).

    Parameters
    ----------
    hidden : int
        Width of the LSTM.
    """

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.lstm = nn.LSTM(len(CHANNELS), hidden, batch_first=True)
        self.out = nn.Linear(2 * hidden + len(CHANNELS), 1)

    def forward(self, curves: torch.Tensor) -> torch.Tensor:
        """Curves (b, STEPS, 5) to log-odds (b,)."""
        states, _ = self.lstm(curves)  # (b, STEPS, hidden)
        seen = torch.cat([states[:, -1], states.mean(dim=1), curves.mean(dim=1)], dim=1)
        log_odds: torch.Tensor = self.out(seen)[:, 0]
        return log_odds


def shipped() -> Network:
    """The network with the weights of this package, which `data/noise_detector` made."""
    file = resources.files(__package__).joinpath(WEIGHTS)
    tensors = load(file.read_bytes())
    network = Network(tensors["lstm.weight_hh_l0"].shape[1])
    network.load_state_dict(tensors)
    return network.eval()


def read(
    network: Network,
    curves: Curves,
    rows: npt.NDArray[np.int64],
    threads: int | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Floats:
    """Return the log-odds that the labels of the samples `rows` are right, float32 (n,).

    Blocks of one fixed size are read on one thread each, so the bytes do not depend on the number of threads.

    Raises
    ------
    Cancelled
    """
    out = np.empty(len(rows), dtype=np.float32)

    def block(start: int) -> None:
        if cancel is not None and cancel():
            raise Cancelled("the detectors were stopped", "while curves were read")
        torch.set_num_threads(1)
        part = rows[start : start + _BLOCK]
        with torch.inference_mode():
            out[start : start + _BLOCK] = network(torch.from_numpy(curves.read(part))).numpy()

    n_threads = _threads.count(threads)
    before = torch.get_num_threads()
    try:
        with _threads.blas(1), ThreadPoolExecutor(max_workers=n_threads) as pool:
            list(pool.map(block, range(0, len(rows), _BLOCK)))
    finally:
        torch.set_num_threads(before)
    return out


def steadied(z: Floats, margins: Floats) -> Floats:
    """Return the mean of the network's log-odds and the AUM, put on their scale; float32 (n,).

    The network has learned from small worlds, and reads more out of a curve than there is where data differ from
    them; the AUM has learned nothing, and reads less. On worlds like its own the mean costs a little average
    precision (the recipe prints both); where noise is a person's it errs less than the network alone.

    Parameters
    ----------
    z : ndarray of float32, shape (n,)
        What the network says.
    margins : ndarray of float32, shape (n,)
        The AUM of the same samples.
    """
    spread = float(margins.std(dtype=np.float64)) if len(margins) else 0.0
    if spread == 0.0:
        return z
    centred = (margins - margins.mean(dtype=np.float64)) / spread
    scaled = z.mean(dtype=np.float64) + z.std(dtype=np.float64) * centred
    return np.asarray((z + scaled) / 2.0, dtype=np.float32)
