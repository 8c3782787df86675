"""Keeping heads while they are trained, so that a killed training goes on after the last epochs that were kept.

What is kept is the state of every head between two epochs: parameters, optimiser, random numbers, and what was recorded
of its epochs. Predictions are made anew from the parameters. So a training that was killed has the bytes of one that
was not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from labeltui.head.plan import HeadState, Plan
from labeltui.head.types import Dynamics, Epoch, Floats
from labeltui.unfinished import Keeper, Pieces, Reader

if TYPE_CHECKING:
    import torch

VERSION = 1  # of what is kept and of how heads are trained; a change of either needs another


class UnfinishedHeads:
    """The heads of one call of `labeltui.head.out_of_fold`, kept while they are trained.

    Parameters
    ----------
    keeper : Keeper
    plan : Plan
        Its `states` and `records` are what is kept, and are set by `load`.
    """

    def __init__(self, keeper: Keeper, plan: Plan) -> None:
        self._keeper = keeper
        self._plan = plan
        self._key = _key(plan)

    def load(self) -> None:
        """Go on from what was kept, if it is of this very training."""
        content, plan = self._keeper.load(self._key), self._plan
        if content is None:
            return
        reader, states = Reader(content), dict(plan.states)
        try:
            (length,) = reader.take(np.int64, 1).tolist()
            for k, member, rng, losses in json.loads(reader.take(np.uint8, length).tobytes()):
                if (k, member) not in states or len(losses) > plan.epochs:
                    raise ValueError("the kept work does not fit")
                np.random.PCG64().state = rng  # raises where it is no state
                history = [
                    Epoch(0, 0, k, member, epoch, plan.epochs, *three) for epoch, three in enumerate(losses)
                ]
                states[k, member] = HeadState(rng, reader.take(np.float32, plan.values).copy(), history)
                rows = plan.watched(k)
                for array in _noted(plan, member):
                    array[: len(losses), rows] = reader.take(array.dtype, len(losses), len(rows))
        except (ValueError, TypeError, KeyError, OverflowError):
            return  # what was written to the records is overwritten in training
        plan.states.update(states)

    def save(self, *, now: bool = False) -> None:
        """Keep the heads as they are, if that is due; they may be trained meanwhile.

        Parameters
        ----------
        now : bool
            Whether it is in any case.
        """
        if now or self._keeper.due():
            self._keeper.save(self._key, self._pieces())

    def _pieces(self) -> Pieces:
        plan = self._plan
        states = [(which, state) for which, state in list(plan.states.items()) if state is not None]
        heads = [
            (*which, state.rng, [(e.loss, e.held_loss, e.held_accuracy) for e in state.history])
            for which, state in states
        ]
        text = json.dumps(heads).encode()
        yield np.int64(len(text)).tobytes()
        yield text
        for (k, member), state in states:
            yield state.values.data
            rows = plan.watched(k)
            for array in _noted(plan, member):
                yield array[: len(state.history), rows].tobytes()


def flatten(tensors: list[torch.Tensor]) -> Floats:
    """Return a copy of the values of float32 tensors, one after the other.

    Parameters
    ----------
    tensors : list of Tensor

    Returns
    -------
    ndarray of float32, shape (v,)
    """
    import torch

    values: Floats = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).cpu().numpy()
    return values


def restore(tensors: list[torch.Tensor], values: Floats) -> None:
    """Set tensors to what `flatten` returned.

    Parameters
    ----------
    tensors : list of Tensor
    values : ndarray of float32, shape (v,)
    """
    import torch

    parts = torch.split(torch.from_numpy(values), [tensor.numel() for tensor in tensors])
    with torch.no_grad():
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.reshape(tensor.shape))


def _noted(plan: Plan, member: int) -> list[Any]:
    """The arrays that a head writes in training, in the rows that it is watched on."""
    if not plan.records:
        return []
    record: Dynamics = plan.records[member]
    return [record.log_p, record.margin, record.top, record.top_p, record.sum_squares]


def _key(plan: Plan) -> str:
    """Digest of all that decides the heads: their inputs as they are trained on, and how."""
    import torch

    z = plan.z.cpu()
    how = [VERSION, torch.__version__, asdict(plan.spec), plan.seed, str(z.dtype), plan.z.device.type]
    digest = hashlib.sha256(json.dumps([*how, plan.n_classes, len(plan.records)]).encode())
    arrays = [plan.fold, plan.labels.cpu().numpy(), plan.weight, plan.finite, z.view(torch.uint8).numpy()]
    if plan.transition is not None:
        arrays.append(plan.transition.cpu().numpy())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
