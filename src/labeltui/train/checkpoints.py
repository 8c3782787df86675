"""Checkpoints: one safetensors file with every tensor of a training state, and its plain numbers as JSON.

Nothing in such a file can run code when it is loaded. It is replaced in one step, so a crash leaves the old one or
the new one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from labeltui.errors import JobError
from labeltui.io.atomic import replacing
from labeltui.text import safe

LAST = "last.safetensors"
MODEL = "model.safetensors"
_STATE = (
    "labeltui"  # one entry only: the order of several is not fixed, and equal states shall be equal files
)


def write(path: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any] | None = None) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    path : Path
    tensors : mapping of str to Tensor
        On any device, in any layout.
    state : mapping, optional
        JSON.
    """
    path.parent.mkdir(exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary, {_STATE: json.dumps(state or {}, sort_keys=True)})
        except SafetensorError as error:
            # A full disk comes as "I/O error: ... (os error 28)".
            found = re.search(r"os error (\d+)", str(error))
            if found is None:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Raises
    ------
    JobError
        It is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[_STATE])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise JobError(
            "a run resumes from a readable checkpoint",
            f"{safe(path.name)}: {safe(str(error), 200)}",
            "delete it to start over, then resume",
        ) from None


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Prepend ``prefix.`` to the names of tensors.

    Parameters
    ----------
    prefix : str
    tensors : mapping of str to Tensor

    Returns
    -------
    dict of str to Tensor
    """
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def part(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Select the tensors whose names begin with ``prefix.``, and strip it.

    Parameters
    ----------
    prefix : str
    tensors : mapping of str to Tensor

    Returns
    -------
    dict of str to Tensor
    """
    cut = len(prefix) + 1
    return {name[cut:]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The tensors of an optimiser's state, named ``<number of the parameter>.<name>``."""
    return {
        f"{number}.{name}": value
        for number, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore the state of an optimiser that has the same parameter groups.

    Parameters
    ----------
    optimiser : torch.optim.Optimizer
    tensors : mapping of str to Tensor
        From `optimiser_tensors`.
    """
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, values in optimiser.state.items():
        for key, value in values.items():
            # Moments have the memory layout of their parameter (channels last), which the file does not keep.
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.ndim == 4:
                values[key] = torch.empty_like(parameter).copy_(value)
