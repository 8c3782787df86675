"""Which layers of a backbone learn, and how fast: groups from the input to the classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from labeltui.errors import UsageError
from labeltui.train.spec import BackboneSpec


def layers(model: Any) -> list[list[str]]:
    """Names of the parameters in groups, from the input to the classifier, which is the last group.

    The groups are those that the timm model names itself (its stages); a model that names none has two.
    """
    head = {id(parameter) for parameter in model.get_classifier().parameters()}
    names = [name for name, _ in model.named_parameters()]
    classifier = [name for name, parameter in model.named_parameters() if id(parameter) in head]
    try:
        from timm.models import group_parameters

        found = group_parameters(model, model.group_matcher(coarse=True))
        groups = [[name for name in found[key] if name not in classifier] for key in sorted(found)]
    except (ImportError, AttributeError, NotImplementedError, AssertionError):
        groups = [[name for name in names if name not in classifier]]
    groups = [group for group in groups if group]
    left = set(names) - set(classifier) - {name for group in groups for name in group}
    if left:  # not matched: they belong to the last stage
        groups[-1] += [name for name in names if name in left]
    return [*groups, classifier]


def optimiser_for(model: nn.Module, spec: BackboneSpec) -> torch.optim.Optimizer:
    """Freeze the layers that the spec names, and return an optimiser over the others.

    Each of its groups has an ``lr_scale``. Vectors (biases, norms) are not decayed.

    Parameters
    ----------
    model : nn.Module
    spec : BackboneSpec

    Returns
    -------
    torch.optim.Optimizer

    Raises
    ------
    UsageError
        The model has fewer groups of layers than shall be frozen.
    """
    groups = layers(model)
    frozen = len(groups) - 1 if spec.freeze == -1 else spec.freeze
    if frozen >= len(groups):
        raise UsageError(
            f"--freeze must leave a group of layers that learns; {spec.model} has {len(groups)}",
            f"got {spec.freeze}",
            "-1 freezes all but the classifier",
        )
    by_name = dict(model.named_parameters())
    made: list[dict[str, Any]] = []
    for number, names in enumerate(groups):
        for parameter in (by_name[name] for name in names):
            parameter.requires_grad_(number >= frozen)
        if number < frozen:
            continue
        scale = spec.layer_decay ** (len(groups) - 1 - number)
        for decayed in (True, False):
            chosen = [by_name[name] for name in names if (by_name[name].ndim > 1) == decayed]
            if chosen:
                decay = spec.weight_decay if decayed else 0.0
                made.append({"params": chosen, "weight_decay": decay, "lr_scale": scale})
    if spec.optimizer == "sgd":
        return torch.optim.SGD(made, lr=spec.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(made, lr=spec.learning_rate)


def training_mode(model: nn.Module) -> None:
    """Put a model in training mode, except frozen modules: their running statistics stay."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()
