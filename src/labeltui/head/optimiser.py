"""AdamW (Loshchilov & Hutter, ICLR 2019) and its learning rate schedule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class AdamW:
    """torch's fused AdamW by its functional form.

    torch's own class imports its compiler, which takes two seconds: as long as the training of some heads.

    Parameters
    ----------
    decayed, free : list of torch.Tensor
        Parameters with and without weight decay.
    decay : float
        Weight decay, as a fraction of the learning rate.
    """

    def __init__(self, decayed: list[torch.Tensor], free: list[torch.Tensor], decay: float) -> None:
        import torch

        self._groups = [
            (
                parameters,
                [torch.zeros_like(each) for each in parameters],  # mean of the gradients
                [torch.zeros_like(each) for each in parameters],  # mean of their squares
                [torch.zeros((), device=each.device) for each in parameters],  # steps
                shrink,
            )
            for parameters, shrink in ((decayed, decay), (free, 0.0))
        ]

    @property
    def state(self) -> list[torch.Tensor]:
        """The tensors that it remembers between steps, float32."""
        return [tensor for _, first, second, steps, _ in self._groups for tensor in (*first, *second, *steps)]

    def step(self, rate: float) -> None:
        """Update all parameters and clear their gradients."""
        import torch
        from torch.optim.adamw import adamw

        with torch.no_grad():
            for parameters, first, second, steps, shrink in self._groups:
                gradients = [each.grad for each in parameters if each.grad is not None]
                assert len(gradients) == len(parameters)  # otherwise the moments would be misassigned
                adamw(
                    parameters, gradients, first, second, [], steps, fused=True, amsgrad=False, beta1=0.9,
                    beta2=0.999, lr=rate, weight_decay=shrink, eps=1e-8, maximize=False,
                )  # fmt: skip
                for each in parameters:
                    each.grad = None


def one_cycle(done: float, warm: float = 0.2) -> float:
    """Fraction of the peak learning rate after the fraction `done` of all steps: cosine up, cosine down.

    Parameters
    ----------
    done : float
        0..1.
    warm : float
        Fraction of the steps in which the rate rises.

    Returns
    -------
    float
    """
    if done < warm:
        return 0.04 + 0.96 * 0.5 * (1.0 - math.cos(math.pi * done / warm))
    return 0.5 * (1.0 + math.cos(math.pi * (done - warm) / (1.0 - warm)))
