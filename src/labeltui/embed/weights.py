"""Reading weights from a file, and naming them by their hash."""

from __future__ import annotations

import hashlib
import pickle
import re
import sys
import tarfile
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from labeltui.errors import ModelError
from labeltui.text import safe

State = dict[str, torch.Tensor]
# What training scripts keep weights under, beside their arguments, optimiser and epoch; averaged weights come first.
CONTAINERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema", "teacher",
    "state_dict", "model_state_dict", "model", "net", "network", "params", "weights", "backbone", "encoder", "student",
)  # fmt: skip
AVERAGED = (
    "ema",
    "teacher",
    "encoder_q",
)  # parts of a prefix that is preferred where several sets of weights fit
SHOWN = 8
MAX_CLASSES = 100  # that stand beside the weights; each one more reads the file again
REFUSED = re.compile(r"GLOBAL (\S+) was not an allowed global")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


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
        Safetensors, or a torch file as training scripts write it. No code in it runs: of the latter only tensors are
        read, and objects of other kinds become empty ones.
    classifier : iterable of str
        Names of the modules that the file may have and the model has not.

    Raises
    ------
    ModelError
        The file is missing or no weights file, or a weight is missing, left over, or of another shape.
    """
    own = model.state_dict()
    state = _without_prefix(_read(path), own, safe(path.name))
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


def _without_prefix(state: State, own: Mapping[str, torch.Tensor], name: str) -> State:
    """Return the weights without what wrappers put before their names.

    DataParallel writes ``module.``, torch.compile ``_orig_mod.``, Lightning the attribute that holds the model, beside
    the weights of losses and metrics. The prefix is the one with which all names of the model are there; where none is,
    the one that all names share.

    Raises
    ------
    ModelError
        Several sets of weights fit.
    """
    wanted = [each for each in own if not each.endswith(".num_batches_tracked")]
    first = wanted[0] if wanted else ""
    found = [each.removesuffix(first) for each in state if each == first or each.endswith("." + first)]
    found = [prefix for prefix in found if all(prefix + each in state for each in wanted)]
    if len(found) > 1:
        averaged = [prefix for prefix in found if any(part in prefix for part in AVERAGED)]
        if len(averaged) != 1 and "" not in found:
            raise ModelError(
                "a checkpoint must hold one set of weights of the model",
                f"in {name} several fit, under {', '.join(safe(prefix) for prefix in found[:SHOWN])}",
                "save the state_dict of the one that is meant",
            )
        found = averaged if len(averaged) == 1 else [""]
    if found:
        prefix = found[0]
        return {each.removeprefix(prefix): value for each, value in state.items() if each.startswith(prefix)}
    while len({each.partition(".")[0] for each in state}) == 1 and all("." in each for each in state):
        shared = next(iter(state)).partition(".")[0] + "."
        if any(each.startswith(shared) for each in own):
            break
        state = {each.removeprefix(shared): value for each, value in state.items()}
    return state


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
            content = _load_tensors(path)
    except Exception as error:
        # Damaged files raise many types: OSError, RuntimeError, UnpicklingError, SafetensorError, EOFError
        # ...
        # torch puts advice before the reason, and colours both.
        advice, _, reason = ANSI.sub("", str(error)).partition("WeightsUnpickler error: ")
        reason = (reason or advice).strip().partition("\n")[0]
        raise ModelError(
            "a checkpoint is a .safetensors file, or a torch file of tensors",
            f"{name} cannot be read so: {safe(reason, 300) or type(error).__name__}",
            "save the state_dict with safetensors.torch.save_file, or download the file again",
        ) from None
    return _find_weights(content, name)


class _Inert:
    """Stands for an object of a class that is not loaded: it takes everything and does nothing."""

    origin = ""

    def __new__(cls, *_: object, **__: object) -> Any:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        """Only torch 2.5 calls it; see `_InertMapping` for later ones."""


class _InertMapping(_Inert):
    """The same for classes whose objects are filled like a dict; `torch.load` fills no others."""

    def __new__(cls, *_: object, **__: object) -> Any:
        return OrderedDict()


def _load_tensors(path: Path) -> object:
    """Load a torch file; classes that `torch.load` does not know to be harmless are replaced, and never imported.

    `torch.load` names one such class at a time, so it is asked again with a stand-in for each that it named. The tar
    files of torch before 0.4 are refused: up to torch 2.5 `weights_only` does not hold for them (CVE-2025-32434).
    """
    if tarfile.is_tarfile(path):
        raise ValueError("it is a tar file, as torch before 0.4 wrote them")
    kind: type[_Inert] = _Inert
    origins: list[str] = []
    while True:
        inert: list[Any] = [_stand_in(kind, origin) for origin in origins]
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(inert):
                # Its warnings are for programmers; TorchScript goes to another loader, after one.
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", ".*TorchScript archive")
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            refused = REFUSED.search(str(error))
            if refused and refused[1] not in origins:
                if len(origins) == MAX_CLASSES:
                    raise ValueError(f"it holds objects of more than {MAX_CLASSES} classes") from None
                origins.append(refused[1])
            elif "SETITEM" in str(error) and kind is _Inert:
                kind = _InertMapping
            else:
                raise
        except UserWarning:
            raise ValueError("it is a TorchScript program; save its state_dict") from None


def _stand_in(kind: type[_Inert], origin: str) -> type[_Inert]:
    module, _, name = origin.rpartition(".")
    return type(name, (kind,), {"origin": origin, "__module__": module or "builtins"})


def _find_weights(content: object, name: str) -> State:
    """Return the tensors of a checkpoint: its own, or those under the key where scripts keep them."""
    under = ""
    while isinstance(content, Mapping):
        inside = [key for key, value in content.items() if isinstance(value, Mapping) and _has_tensors(value)]
        tensors = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
        key = next((key for key in CONTAINERS if key in inside), None)
        if key is None and not tensors and len(inside) == 1:
            key = inside[0]
        if key is None:
            if tensors:
                return tensors
            break
        content, under = content[key], f"{under}{safe(str(key))} of "
    raise ModelError(
        "a checkpoint maps names to tensors",
        f"{under}{name} holds {_described(content)}",
        "save the state_dict of the model: torch.save(model.state_dict(), FILE)",
    )


def _has_tensors(content: Mapping[object, object]) -> bool:
    return any(
        isinstance(value, torch.Tensor) or (isinstance(value, Mapping) and _has_tensors(value))
        for value in content.values()
    )


def _described(content: object) -> str:
    """Say what a checkpoint holds instead of tensors."""
    if isinstance(content, _Inert):
        return f"an object of {safe(content.origin, 80)}"
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    parts = [f"{safe(str(key), 40)}: {_described(value)}" for key, value in content.items()]
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return f"no tensors but {', '.join(parts[:SHOWN])}{more}" if parts else "nothing"
