"""What a study consists of: its parameters, and the cells that follow from them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any

from labeltui.errors import UsageError
from labeltui.options import option, split_names, split_numbers
from labeltui.studies.injection import MODELS, NoiseSpec
from labeltui.studies.networks import NETWORKS
from labeltui.text import safe

STUDIES = ("dilution", "structure", "batch", "correction")
CONDITIONS = ("original", "noisy", "oracle", "blind", "reviewed")
ALPHAS = {"dilution": (0, 1, 2, 5, 10, 20, 50, 100), "structure": (20,), "batch": (0, 5, 20)}
INFINITE = 0
"""Batch size that stands for the infinite batch: its expected loss, which is label smoothing."""
Cell = dict[str, Any]
"""Parameters of a cell, JSON values."""


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(value) for value in split_numbers(text))


@dataclass(frozen=True)
class StudySpec:
    """Parameters of a study; those that it has no use for are ignored.

    Attributes
    ----------
    study : str
        One of `STUDIES`.
    batch : int
        Of `dilution` a batch is so many *samples*, each with its 1 + alpha labels.
    deltas : tuple of float
        0 is uniform noise; at 1 the most frequent wrong label is as frequent as the right one.
    batches : tuple of int
        `INFINITE` is the infinite batch. Every size sees as many labels as `steps` steps of `batch`.
    clean : bool
        With the noise ``none``: the run's labels are clean ones, and the audit's given labels the noisy.

    Raises
    ------
    UsageError
        A value is out of range.
    """

    study: str
    networks: tuple[str, ...] = option(
        ("linear", "mlp"),
        "Of linear, mlp and cnn, with commas; correction: timm names too.",
        "Model",
        parse=split_names,
    )
    seeds: tuple[int, ...] = option(
        (0, 1, 2), "Of noise, weights and batches, with commas.", "Training", parse=_counts
    )
    steps: int = option(800, "Of each training.", "Training")
    batch: int = option(128, "Samples of a step.", "Training", flag="--batch-size")
    learning_rate: float = option(1e-3, "Peak.", "Training")
    alphas: tuple[int, ...] = option(
        (), "Noisy labels beside each clean one, with commas.", "Scoring", shown="by study", parse=_counts
    )
    fractions: tuple[float, ...] = option(
        (1.0,), "dilution: fractions of the training samples, with commas.", "Scoring", parse=split_numbers
    )
    deltas: tuple[float, ...] = option(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2), "structure: strengths of the skew, with commas.", "Scoring",
        parse=split_numbers,
    )  # fmt: skip
    batches: tuple[int, ...] = option(
        (32, 64, 128, 256, INFINITE),
        "batch: sizes, with commas; 0 is the infinite batch.",
        "Scoring",
        parse=_counts,
    )
    learning_rates: tuple[float, ...] = option(
        (3e-4, 1e-3, 3e-3), "batch: with commas.", "Scoring", parse=split_numbers
    )
    noises: tuple[str, ...] = option(
        ("symmetric:0.2",), "correction: none or MODEL:RATE, with commas.", "Scoring", parse=split_names
    )
    reviews: int = option(1000, "correction: simulated reviews; at most a tenth of the samples.", "Scoring")
    checkpoint: str = option(
        "", "correction: initial weights of timm networks.", "Model", shown="published", parse=os.path.abspath
    )
    epochs: int = option(5, "correction: of timm networks.", "Training")
    limit: int = option(0, "Most training samples.", "Source", shown="all")
    image_size: int = option(32, "Side in pixels, for networks on images.", "Model")
    clean: bool = option(False, "correction: --labels are clean, the given ones noisy.", "Source")
    second: str = option(
        "",
        "correction: an audit of the same samples, another embedding, for CSG.",
        "Source",
        parse=os.path.abspath,
    )
    other: str = option(
        "",
        "structure: an audit of other data, same embedding, for strange samples.",
        "Source",
        parse=os.path.abspath,
    )

    def __post_init__(self) -> None:
        if not self.alphas:
            object.__setattr__(self, "alphas", ALPHAS.get(self.study, (0,)))
        timm_names = self.study == "correction"
        checks = [
            (self.study in STUDIES, "a study", "one of " + ", ".join(STUDIES), self.study),
            (bool(self.networks) and (timm_names or set(self.networks) <= set(NETWORKS)), "--networks",
             "of " + ", ".join(NETWORKS) + (" and timm names" if timm_names else ""), ", ".join(self.networks)),
            (bool(self.seeds) and min(self.seeds, default=0) >= 0, "--seeds", "0 or more", self.seeds),
            (self.steps >= 1, "--steps", "at least 1", self.steps),
            (self.batch >= 2, "--batch-size", "at least 2", self.batch),
            (self.learning_rate > 0 and all(rate > 0 for rate in self.learning_rates), "learning rates", "above 0",
             (self.learning_rate, *self.learning_rates)),
            (min(self.alphas) >= 0, "--alphas", "0 or more", self.alphas),
            (all(0 < each <= 1 for each in self.fractions), "--fractions", "in (0, 1]", self.fractions),
            (all(each >= 0 for each in self.deltas), "--deltas", "0 or more", self.deltas),
            (all(each == INFINITE or each >= 2 for each in self.batches), "--batches", "at least 2", self.batches),
            (self.reviews >= 0, "--reviews", "0 or more", self.reviews),
            (self.epochs >= 1, "--epochs", "at least 1", self.epochs),
            (self.limit >= 0, "--limit", "0 or more", self.limit),
            (8 <= self.image_size <= 512, "--image-size", "from 8 to 512", self.image_size),
        ]  # fmt: skip
        for holds, name, requirement, got in checks:
            if not holds:
                raise UsageError(f"{name} must be {requirement}", f"got {safe(str(got))}")
        if self.study == "correction":
            for name in self.noises:
                noise_of(name, 0)
            if "none" in self.noises and not self.clean:
                raise UsageError(
                    "the noise none needs clean labels", "got none", "--labels TABLE:COLUMN --clean"
                )

    def as_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StudySpec:
        """Read what `as_json` returned.

        Raises
        ------
        UsageError
            It is not that.
        """
        try:
            known = {each.name for each in fields(cls)}
            given: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known
            }
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise UsageError("a study needs readable parameters", safe(str(error), 120)) from None

    def cells(self) -> list[Cell]:
        """Return the parameters of each cell, in the order in which they are computed."""
        made = {"dilution": self._dilution, "structure": self._structure, "batch": self._batch}
        return list(made.get(self.study, self._correction)())

    def _dilution(self) -> Iterator[Cell]:
        for seed, alpha, fraction, network in product(self.seeds, self.alphas, self.fractions, self.networks):
            yield {"network": network, "alpha": alpha, "fraction": fraction, "seed": seed}

    def _structure(self) -> Iterator[Cell]:
        kinds = [("confusable", delta) for delta in self.deltas]
        kinds += [("out-of-vocabulary", 0.0), ("white noise", 0.0)]
        for seed, alpha, (kind, delta), network in product(self.seeds, self.alphas, kinds, self.networks):
            yield {"network": network, "alpha": alpha, "kind": kind, "delta": delta, "seed": seed}

    def _batch(self) -> Iterator[Cell]:
        for seed, alpha, batch, rate, network in product(
            self.seeds, self.alphas, self.batches, self.learning_rates, self.networks
        ):
            yield {"network": network, "alpha": alpha, "batch": batch, "learning_rate": rate, "seed": seed}

    def _correction(self) -> Iterator[Cell]:
        for seed, noise in product(self.seeds, self.noises):
            yield {"noise": noise, "seed": seed}  # the labels of each condition, and what they look like
            for network, condition in product(self.networks, CONDITIONS):
                yield {"noise": noise, "seed": seed, "network": network, "condition": condition}


def noise_of(name: str, seed: int) -> NoiseSpec | None:
    """Return the noise that MODEL:RATE names; None for ``none``.

    Raises
    ------
    UsageError
        It names none.
    """
    if name == "none":
        return None
    model, _, rate = name.partition(":")
    try:
        value = float(rate)
    except ValueError:
        value = -1.0
    if model not in MODELS or model == "out-of-vocabulary" or not 0 < value < 1:
        raise UsageError(
            "a noise must be none, or MODEL:RATE", f"got {safe(name)}", "for example symmetric:0.2"
        )
    return NoiseSpec(model, value, seed)
