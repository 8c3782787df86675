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

from labeltui import parallel
from labeltui.detect.base import Floats
from labeltui.detect.dynamics.company import FACTS
from labeltui.detect.dynamics.curves import CHANNELS, Curves
from labeltui.errors import Cancelled

WEIGHTS = "weights.safetensors"
_BLOCK = 2048  # samples at a time, whatever the number of threads: the bytes follow from the block


_SUMMED = tuple(CHANNELS.index(name) for name in ("odds", "margin", "all_agree", "all_odds"))


class Network(nn.Module):
    """A small LSTM over the curves, and a weighted sum beside it; both give the log-odds of a right label.

    The LSTM is read at its last step and on the mean over all steps, so that neither the end of training nor its whole
    course is lost; beside it stand the mean of each channel and what the run says of the sample. These enter its
    output as a weighted sum and nowhere else: few runs were learned from, and a network that may combine such facts
    knows each run again.

    The other sum has the mean odds, the AUM and the facts alone. It sees less where the LSTM is at home, and errs less
    where data differ from all that was learned from.

    Parameters
    ----------
    hidden : int
        Width of the LSTM.

    Attributes
    ----------
    share : Tensor
        How much of the plain sum is in the log-odds; the recipe chooses it.
    """

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.lstm = nn.LSTM(len(CHANNELS), hidden, batch_first=True)
        self.out = nn.Linear(2 * hidden + len(CHANNELS) + len(FACTS), 1)
        self.plain = nn.Linear(len(_SUMMED) + len(FACTS), 1)
        self.share: torch.Tensor
        self.register_buffer("share", torch.zeros(()))

    def both(self, curves: torch.Tensor, facts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Curves (b, STEPS, 8) and facts (b, 10) to the log-odds by the LSTM and by the plain sum, (b,) each."""
        states, _ = self.lstm(curves)  # (b, STEPS, hidden)
        means = curves.mean(dim=1)
        seen = torch.cat([states[:, -1], states.mean(dim=1), means, facts], dim=1)
        return self.out(seen)[:, 0], self.plain(torch.cat([means[:, _SUMMED], facts], dim=1))[:, 0]

    def forward(self, curves: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        """Curves and facts to log-odds (b,)."""
        return torch.lerp(*self.both(curves, facts), self.share)


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

    n_threads = parallel.count_threads(threads)
    before = torch.get_num_threads()
    try:
        with parallel.limit_blas(1), ThreadPoolExecutor(max_workers=n_threads) as pool:
            list(pool.map(block, range(0, len(rows), _BLOCK)))
    finally:
        torch.set_num_threads(before)
    return out
