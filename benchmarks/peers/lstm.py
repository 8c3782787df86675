"""The published recipe for reading training dynamics, as a baseline (Jia et al., AAAI 2023, arXiv 2212.09321).

    network = taught(records, wrong)
    score = judged(network, record)

An LSTM (1 -> 64, two layers, last step) and a linear layer (64 -> 2; 50,562 parameters) read, epoch by epoch, the
softmax probability of the given label. Orthogonal weights, biases .01, cross-entropy, AdamW with learning rate .1,
batches of 64, 10 epochs, a tenth kept back to choose the epoch; wrong above one half. Its authors took the curves
from 200 epochs of a ResNet-32; here they come from whatever trained `records`, which a table must name.

That learning rate saturates the LSTM in many a training, of few curves above all (they had 50,000): it then gives every
curve one and the same answer, and no more than the last digits decide the order, upside down as likely as not. Where
the answers on the tenth kept back do not halve the mistakes of calling every label right, training begins again from
other weights, `TRIES` times at most; the best of them is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from labeltui.head import Dynamics

EPOCHS, BATCH, RATE, KEPT_BACK = 10, 64, 0.1, 0.1
TRIES = 5


class Published(nn.Module):
    """The network."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 64, num_layers=2, batch_first=True)
        self.out = nn.Linear(64, 2)
        for name, values in self.named_parameters():
            if "bias" in name:
                nn.init.constant_(values, 0.01)
            else:
                nn.init.orthogonal_(values)

    def forward(self, curves: torch.Tensor) -> torch.Tensor:
        """Curves (b, E, 1) to logits (b, 2): right, wrong."""
        states, _ = self.lstm(curves)
        logits: torch.Tensor = self.out(states[:, -1])
        return logits


def taught(records: Sequence[Dynamics], wrong: Sequence[NDArray[np.bool_]], seed: int = 0) -> Published:
    """Train the published recipe on records whose wrong labels are known.

    Parameters
    ----------
    records : sequence of Dynamics
        All of the same number of epochs; the recipe has errors injected at 20 %, uniformly.
    wrong : sequence of ndarray of bool, shape (N,)
    seed : int
    """
    parts = [_curves(record) for record in records]
    x = torch.cat([curves for curves, _ in parts])
    y = torch.from_numpy(
        np.concatenate([mask[known] for mask, (_, known) in zip(wrong, parts, strict=True)])
    ).long()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tries = []
        for number in range(TRIES):
            accuracy, guess, network = _train(x, y, seed + 1000 * number)
            tries.append((accuracy, network))
            if accuracy > (1.0 + guess) / 2.0:
                break
        return max(tries, key=lambda each: each[0])[1]
    finally:
        torch.set_num_threads(before)


def judged(network: Published, record: Dynamics) -> NDArray[np.float32]:
    """Return P(label right) of each sample of a record of any number of epochs, float32 (N,); low = bad.

    Wrong below one half. Samples that were not recorded get one half.
    """
    x, known = _curves(record)
    out = np.full(len(record.labels), 0.5, dtype=np.float32)
    out[known] = 1.0 - _wrong(network, x)
    return out


def _curves(record: Dynamics) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Probabilities of the given label, (n, E, 1), and the samples they belong to."""
    p = np.exp(record.log_p.astype(np.float32)).T
    known = np.flatnonzero(np.isfinite(p).all(axis=1))
    return torch.from_numpy(np.ascontiguousarray(p[known]))[:, :, None], known


def _train(x: torch.Tensor, y: torch.Tensor, seed: int) -> tuple[float, float, Published]:
    """Accuracy on the tenth kept back, that of calling every label right, and the network of the best epoch."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    kept, rows = np.split(order, [round(KEPT_BACK * len(x))])
    network = Published()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    best, state = -1.0, network.state_dict()
    for _ in range(EPOCHS):
        shuffled = rng.permutation(rows)
        for start in range(0, len(shuffled), BATCH):
            index = torch.from_numpy(shuffled[start : start + BATCH])
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[index]), y[index]).backward()
            optimiser.step()
        found = _wrong(network, x[kept]) > 0.5
        accuracy = float((found == y[kept].numpy().astype(bool)).mean())
        if accuracy > best:
            best = accuracy
            state = {name: values.clone() for name, values in network.state_dict().items()}
    network.load_state_dict(state)
    return best, float((y[kept] == 0).float().mean()), network


def _wrong(network: Published, x: torch.Tensor) -> NDArray[np.float32]:
    """P(wrong) of curves."""
    with torch.inference_mode():
        blocks = [network(block).softmax(dim=1)[:, 1] for block in x.split(4096)]
    p: NDArray[np.float32] = torch.cat(blocks).numpy()
    return p
