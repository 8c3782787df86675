"""Reading weights from a file, and naming them by their hash."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from labeltui.errors import ModelError
from labeltui.text import safe

State = dict[str, torch.Tensor]
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # what training scripts wrap weights in
PREFIXES = ("module.", "_orig_mod.", "model.")  # added by DataParallel, torch.compile and Lightning
SHOWN = 8


def weights_hash(model: torch.nn.Module) -> str:
    """Return the SHA-256 of a model's parameters and buffers, by name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_checkpoint(model: torch.nn.Module, path: Path, classifier: Iterable[str]) -> None:
    """Fill a model that has no classifier with the weights of a file.

    Parameters
    ----------
    model : torch.nn.Module
    path : Path
        Safetensors, or a torch file; of the latter only plain tensors are read, so no code in it can run.
    classifier : iterable of str
        Names of the modules that the file may have and the model has not.

    Raises
    ------
    ModelError
        The file is missing or no weights file, or a weight is missing, left over, or of another shape.
    """
    state = _read(path)
    own = model.state_dict()
    while prefix := next((item for item in PREFIXES if all(name.startswith(item) for name in state)), ""):
        if any(name.startswith(prefix) for name in own):
            break
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    problems = _problems(own, state, classifier)
    if problems:
        # Some timm models come with a converter for checkpoints of other layouts and input sizes.
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        if convert is not None:
            try:
                converted = convert(dict(state), model)
            except Exception:  # written for some layouts only; the plain comparison is the clearer message
                converted = state
            if not _problems(own, converted, classifier):
                state, problems = converted, []
    if problems:
        raise ModelError(
            "the checkpoint must have the weights of this model, and only them beside a classifier",
            f"{safe(path.name)}:\n" + "\n".join(problems),
            "name the model and the --model-arg values it was trained with",
        )
    model.load_state_dict({name: tensor for name, tensor in state.items() if name in own}, strict=False)


def _problems(
    own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], classifier: Iterable[str]
) -> list[str]:
    """Return one line for each way in which a file's weights do not fit."""
    heads = tuple(f"{name}." for name in classifier)
    missing = [name for name in own if name not in state and not name.endswith(".num_batches_tracked")]
    extra = [name for name in state if name not in own and not name.startswith(heads)]
    other = [
        f"{safe(name)} {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    lists = (("missing", missing), ("left over", [safe(name) for name in extra]), ("of another shape", other))
    return [
        f"{what}: {', '.join(names[:SHOWN])}"
        + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        for what, names in lists
        if names
    ]


def _read(path: Path) -> State:
    name = safe(str(path))
    if not path.is_file():
        raise ModelError("the checkpoint must be a file", f"there is no file {name}", "check --checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: object = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged files raise many types: OSError, RuntimeError, UnpicklingError, SafetensorError, EOFError
        # ...
        raise ModelError(
            "a checkpoint is a .safetensors file, or a torch file of plain tensors",
            f"{name} cannot be read so: {safe(str(error).strip().partition(chr(10))[0], 300) or type(error).__name__}",
            "save the state_dict with safetensors.torch.save_file, or download the file again",
        ) from None
    for key in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise ModelError("a checkpoint maps names to tensors", f"{name} holds a {type(content).__name__}")
    if wrong := [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]:
        raise ModelError(
            "a checkpoint maps names to tensors",
            f"in {name} these are none: {safe(', '.join(wrong[:SHOWN]))}",
            "save the state_dict alone",
        )
    return dict(content)
