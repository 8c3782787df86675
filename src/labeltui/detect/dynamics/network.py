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
from labeltui.detect.dynamics.company import FACTS
from labeltui.detect.dynamics.curves import CHANNELS, Curves
from labeltui.errors import Cancelled

WEIGHTS = "weights.safetensors"
_BLOCK = 2048  # samples at a time, whatever the number of threads: the bytes follow from the block


class Network(nn.Module):
    """A small LSTM over the curves; what it gives is the log-odds of a right label.

    At each step it sees the channels and what the run says of the sample. It is read at its last step and on the mean
    over all steps, so that neither the end of training nor its whole course is lost, and beside it the mean of each
    channel and what the run says.

    Parameters
    ----------
    hidden : int
        Width of the LSTM.

    Attributes
    ----------
    share : Tensor
        How much of the AUM `steadied` puts into the score; the recipe chooses it.
    """

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        seen = len(CHANNELS) + len(FACTS)
        self.lstm = nn.LSTM(seen, hidden, batch_first=True)
        self.out = nn.Linear(2 * hidden + seen, 1)
        self.share: torch.Tensor
        self.register_buffer("share", torch.zeros(()))

    def forward(self, curves: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        """Curves (b, STEPS, 8) and facts (b, 6) to log-odds (b,)."""
        constant = facts[:, None].expand(-1, curves.shape[1], -1)
        states, _ = self.lstm(torch.cat([curves, constant], dim=2))  # (b, STEPS, hidden)
        seen = torch.cat([states[:, -1], states.mean(dim=1), curves.mean(dim=1), facts], dim=1)
        log_odds: torch.Tensor = self.out(seen)[:, 0]
        return log_odds


def shipped() -> Network:
    """The network with the weights of this package, which `data/noise_detector` made."""
    return loaded(load(resources.files(__package__).joinpath(WEIGHTS).read_bytes()))


def loaded(tensors: dict[str, torch.Tensor]) -> Network:
    """The network with these weights."""
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
            seen = torch.from_numpy(curves.read(part)), torch.from_numpy(curves.company.facts[part])
            out[start : start + _BLOCK] = network(*seen).numpy()

    n_threads = _threads.count(threads)
    before = torch.get_num_threads()
    try:
        with _threads.blas(1), ThreadPoolExecutor(max_workers=n_threads) as pool:
            list(pool.map(block, range(0, len(rows), _BLOCK)))
    finally:
        torch.set_num_threads(before)
    return out


def steadied(z: Floats, margins: Floats, share: float) -> Floats:
    """Return the network's log-odds, mixed with a share of the AUM that is put on their scale; float32 (n,).

    The network has learned from small worlds, and may read more out of a curve than there is where data differ from
    them; the AUM has learned nothing, and reads less.

    Parameters
    ----------
    z : ndarray of float32, shape (n,)
        What the network says.
    margins : ndarray of float32, shape (n,)
        The AUM of the same samples.
    share : float
        From 0 to 1.
    """
    spread = float(margins.std(dtype=np.float64)) if len(margins) else 0.0
    if spread == 0.0:
        return z
    centred = (margins - margins.mean(dtype=np.float64)) / spread
    scaled = z.mean(dtype=np.float64) + z.std(dtype=np.float64) * centred
    return np.asarray((1.0 - share) * z + share * scaled, dtype=np.float32)
