"""The training loop: one function to read, `Fit.run`; all else here is what it calls.

The order of the samples and every augmentation follow from (seed, model, epoch, batch) alone, and what torch itself
draws (dropout, drop path) from a generator state that the checkpoint holds. So a run that goes on from a checkpoint,
inside an epoch too, takes the very steps that it would have taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.functional import cross_entropy

from labeltui.errors import JobError, ModelError
from labeltui.train import checkpoints
from labeltui.train.dynamics import Recorder
from labeltui.train.images import Augmenter, Rows, TrainingImages, batches, plain
from labeltui.train.spec import BackboneSpec
from labeltui.train.tuning import optimiser_for, training_mode

PREDICT_BATCH = 128
LOOK_EVERY = 20  # steps between two looks at the loss on a GPU: each one waits for the device
ABSENT = -30.0  # added to the logits of classes without training samples

State = dict[str, Any]


@dataclass
class TrainState:
    """How far a fit has come.

    Attributes
    ----------
    epoch, step : int
        Finished ones; of steps, in the present epoch.
    fits : int
        Samples of one pass that memory has room for.
    best, best_epoch, worse : float, int, int
        Lowest loss on the samples watched, its epoch, and the epochs since without a better one; with patience only.
    history : list
        One entry an epoch: ``loss``, and ``watch_loss`` and ``accuracy`` where samples are watched.
    """

    epoch: int = 0
    step: int = 0
    fits: int = 0
    loss_sum: float = 0.0
    best: float = math.inf
    best_epoch: int = -1
    worse: int = 0
    scale: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingContext:
    """What a fit learns from, and whom it tells.

    Attributes
    ----------
    spec : BackboneSpec
    images : TrainingImages
    labels : ndarray of int32, shape (N,)
    weights : ndarray of float32, shape (N,), optional
    rows, watch : ndarray of int64
        Samples to train on, and labelled ones among the others that the fit is followed by, and stopped early by where
        the spec has patience; may be none.
    seen : ndarray of bool, shape (K,)
        Classes that `rows` has.
    key : tuple of int
        Seed and number of the model.
    device : torch.device
    mean, std : tuple of float
    record, clean : Recorder or None
        Of the training steps, and of passes without augmentation.
    report : callable
        Told the share of the steps done, and after an epoch its entry of the history.
    keep : callable
        Asked to write a checkpoint after each epoch.
    stop : callable
        Asked after each training step; raises to stop, after calling `keep` itself where that is wanted.
    check : callable
        The same between batches that are only predicted: these are not cut into pieces.
    finish_epoch : callable
        Told the number of a finished epoch, before its checkpoint.
    note : callable
        Told what a person must know.
    """

    spec: BackboneSpec
    images: TrainingImages
    labels: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32] | None
    rows: Rows
    watch: Rows
    seen: npt.NDArray[np.bool_]
    key: tuple[int, ...]
    device: torch.device
    mean: tuple[float, ...]
    std: tuple[float, ...]
    record: Recorder | None
    clean: Recorder | None
    report: Callable[..., None]
    keep: Callable[[Fit], None]
    stop: Callable[[Fit], None]
    check: Callable[[Fit], None]
    finish_epoch: Callable[[int], None]
    note: Callable[[str], None]


class Fit:
    """One model in training.

    Parameters
    ----------
    model : nn.Module
        On the device.
    context : TrainingContext
    """

    def __init__(self, model: nn.Module, context: TrainingContext) -> None:
        spec = context.spec
        self.model = model
        self.context = context
        self.optimiser = optimiser_for(model, spec)
        self.ema = ModelEmaV3(model, decay=spec.ema, use_warmup=True) if spec.ema else None
        self.half = half_type(spec.precision, context.device)
        self.scaler = torch.amp.GradScaler(context.device.type, enabled=self.half == torch.float16)
        self.place = TrainState(fits=spec.micro_batch or 2 * spec.batch_size)
        self.steps = max(1, round(len(context.rows) / spec.batch_size))
        self._labels = torch.from_numpy(context.labels.astype(np.int64)).to(context.device)
        weights = np.ones(len(context.labels), np.float32) if context.weights is None else context.weights
        self._weights = weights / max(float(weights[context.rows].mean(dtype=np.float64)), 1e-12)
        self._columns = torch.from_numpy(np.flatnonzero(context.seen)).to(context.device)
        self._column_of = torch.from_numpy(np.cumsum(context.seen) - 1).to(context.device)  # (K,)
        self._absent = torch.from_numpy(np.where(context.seen, 0.0, ABSENT).astype(np.float32)).to(
            context.device
        )
        self._normalize = Normalize(context.mean, context.std, context.device)
        self._best: dict[str, torch.Tensor] = {}
        self._waiting: list[torch.Tensor] = []  # losses that were not looked at yet

    @property
    def shown(self) -> nn.Module:
        """The model that predicts: the moving average, where there is one."""
        return self.model if self.ema is None else self.ema.module

    def run(self) -> nn.Module:
        """Train from where `place` is to the end, and return the model that predicts."""
        context, spec, place = self.context, self.context.spec, self.place
        total = spec.epochs * self.steps
        while place.epoch < spec.epochs and not (spec.patience and place.worse >= spec.patience):
            order = np.random.default_rng([*context.key, place.epoch]).permutation(context.rows)
            parts = np.array_split(order, self.steps)[place.step :]
            augment = Augmenter(spec.augment, [*context.key, place.epoch], place.step)
            training_mode(self.model)
            for index, pixels in batches(context.images, parts, augment):
                done = place.epoch * self.steps + place.step
                for group in self.optimiser.param_groups:
                    group["lr"] = spec.learning_rate * group["lr_scale"] * schedule(done / total, spec.warmup)
                loss = self._step(index, pixels)
                if self.ema is not None:
                    self.ema.update(self.model, step=done + 2)
                place.step += 1
                self._add(loss)
                context.report((done + 1) / total)
                context.stop(self)
            self._settle()
            entry = {"loss": place.loss_sum / self.steps}
            if len(context.watch):
                entry |= self._watch()
            if context.clean is not None:
                self._pass(context.rows, context.clean)
            place.history.append(entry)
            context.finish_epoch(place.epoch)
            place.epoch, place.step, place.loss_sum = place.epoch + 1, 0, 0.0
            context.report(place.epoch / spec.epochs, epoch=place.epoch, epochs=spec.epochs, **entry)
            context.keep(self)
        if self._best:
            self.shown.load_state_dict(self._best)
        return self.shown

    def _step(self, index: Rows, pixels: torch.Tensor) -> torch.Tensor:
        """One optimiser step on a batch, in as many passes as memory needs; returns the loss."""
        while True:
            with suppress(torch.OutOfMemoryError):
                return self._passes(index, pixels)
            # The same batch in smaller parts: their gradients add up to the same step.
            self._halve(len(index))

    def _halve(self, size: int) -> None:
        """Halve the passes, of which the last one, of at most `size` samples, did not fit into memory."""
        place, spec = self.place, self.context.spec
        if place.fits == 1:
            raise ModelError(
                "the training of one image must fit into the GPU's memory",
                "it does not",
                "give a smaller --image-size or model, or --device cpu",
            )
        place.fits = max(1, min(place.fits, size) // 2)
        self.context.note(
            f"out of GPU memory: from epoch {place.epoch + 1} on a step of {spec.batch_size} is made of passes of "
            f"{place.fits}"
        )
        torch.cuda.empty_cache()

    def _passes(self, index: Rows, pixels: torch.Tensor) -> torch.Tensor:
        context, device = self.context, self.context.device
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        weights = self._weights[index]
        if context.images.lost:
            weights = np.where(
                [int(sample) in context.images.lost for sample in index], np.float32(0), weights
            )
        passes = -(-len(index) // self.place.fits)
        for places in np.array_split(np.arange(len(index)), passes):
            part = slice(int(places[0]), int(places[-1]) + 1)  # of equal sizes: a batch of one has no norm
            at = torch.from_numpy(index[part]).to(device)
            weight = torch.from_numpy(weights[part]).to(device)
            with torch.autocast(device.type, self.half) if self.half else nullcontext():
                logits = self.model(self._normalize(pixels[part]))  # (b, K)
            logits = logits.float()
            labels = self._labels[at]
            # Only among classes with training samples: label smoothing would raise the logits of the others.
            losses = cross_entropy(
                logits[:, self._columns],
                self._column_of[labels],
                reduction="none",
                label_smoothing=context.spec.label_smoothing,
            )
            loss = (losses * weight).sum() / len(index)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            if context.record is not None:
                context.record.note(at, logits + self._absent, labels)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return total

    def _add(self, loss: torch.Tensor) -> None:
        """Sum the losses up; on a GPU a few steps at a time."""
        self._waiting.append(loss)
        if self.context.device.type == "cpu" or len(self._waiting) >= LOOK_EVERY:
            self._settle()

    def _settle(self) -> None:
        """Add the losses that wait, which waits for the device, and see that they are finite."""
        for loss in self._waiting:
            self.place.loss_sum += float(loss)
        self._waiting.clear()
        if not math.isfinite(self.place.loss_sum):
            place = self.place
            raise JobError(
                "the loss must stay finite",
                f"it is {place.loss_sum} in epoch {place.epoch + 1}, by step {place.step} of {self.steps}; the last "
                "good checkpoint is kept",
                "start again with a smaller --learning-rate, or with --precision float32",
            )

    def _watch(self) -> dict[str, float]:
        """Loss and accuracy on the samples watched; with patience, keeps the weights of the best epoch."""
        place, watch = self.place, self.context.watch
        p = self.predict(watch)
        labels = self.context.labels[watch]
        own = p[np.arange(len(watch)), labels]
        loss = float(-np.log(np.maximum(own, 1e-12)).mean())
        if self.context.spec.patience:
            if loss < place.best:
                place.best, place.best_epoch, place.worse = loss, place.epoch, 0
                self._best = {name: each.detach().clone() for name, each in self.shown.state_dict().items()}
            else:
                place.worse += 1
        return {"watch_loss": loss, "accuracy": float((p.argmax(axis=1) == labels).mean())}

    def _pass(self, rows: Rows, recorder: Recorder) -> None:
        for index, logits in self._logits(rows):
            at = torch.from_numpy(index).to(self.context.device)
            recorder.note(at, logits + self._absent, self._labels[at])

    def _logits(self, rows: Rows) -> Iterator[tuple[Rows, torch.Tensor]]:
        """Samples and their logits (b, K), a batch at a time."""

        def logits(images: torch.Tensor) -> torch.Tensor:
            with torch.autocast(self.context.device.type, self.half) if self.half else nullcontext():
                made: torch.Tensor = self.shown(images)
            return made

        return self._shown(rows, logits)

    def _shown(
        self, rows: Rows, look: Callable[[torch.Tensor], torch.Tensor]
    ) -> Iterator[tuple[Rows, torch.Tensor]]:
        """Samples, and what `look` makes of their images as they are, float32, in passes that fit into memory."""
        self.shown.eval()
        parts = [rows[start : start + PREDICT_BATCH] for start in range(0, len(rows), PREDICT_BATCH)]
        for index, pixels in batches(self.context.images, parts, plain):
            start = 0
            while start < len(index):
                part, made = slice(start, start + self.place.fits), None
                with suppress(torch.OutOfMemoryError), torch.inference_mode():
                    made = look(self._normalize(pixels[part])).float()
                if made is None:
                    self._halve(len(index) - start)
                else:
                    yield index[part], made
                    start = part.stop
            self.context.check(self)

    def predict(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Probabilities (n, K) of the samples `rows`; those of classes without training samples are 0."""
        out = np.empty((len(rows), len(self.context.seen)), dtype=np.float32)
        start = 0
        hidden = torch.where(self._absent < 0, -torch.inf, 0.0)
        for index, logits in self._logits(rows):
            out[start : start + len(index)] = (logits + hidden).softmax(dim=1).cpu().numpy()
            start += len(index)
        return out

    def features(self, rows: Rows) -> npt.NDArray[np.float32]:
        """What the classifier gets, (n, d) float32, of the samples `rows`."""
        model: Any = self.shown

        def pooled(images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
            return found

        made = torch.cat([found.cpu() for _, found in self._shown(rows, pooled)])
        features: npt.NDArray[np.float32] = made.numpy()
        return features

    # checkpoints

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor of the state."""
        made = checkpoints.prefixed("model", self.model.state_dict())
        made |= checkpoints.prefixed("optimiser", checkpoints.optimiser_tensors(self.optimiser))
        made["random.cpu"] = torch.get_rng_state()
        if self.context.device.type == "cuda":
            made["random.cuda"] = torch.cuda.get_rng_state(self.context.device)
        if self.ema is not None:
            made |= checkpoints.prefixed("ema", self.ema.module.state_dict())
        if self.context.record is not None and self.place.step:
            made |= checkpoints.prefixed("record", self.context.record.tensors())
        return made | checkpoints.prefixed("best", self._best)

    def state(self) -> State:
        """Every plain number of the state."""
        self._settle()
        self.place.scale = self.scaler.state_dict()
        return asdict(self.place)

    def load(self, tensors: dict[str, torch.Tensor], state: State) -> None:
        """Go back to a state that `tensors` and `state` gave."""
        self.model.load_state_dict(checkpoints.part("model", tensors))
        checkpoints.load_optimiser(self.optimiser, checkpoints.part("optimiser", tensors))
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and self.context.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.context.device)
        if self.ema is not None:
            self.ema.module.load_state_dict(checkpoints.part("ema", tensors))
        if self.context.record is not None and (record := checkpoints.part("record", tensors)):
            self.context.record.load(record)
        best = checkpoints.part("best", tensors)
        self._best = {name: tensor.to(self.context.device) for name, tensor in best.items()}
        self.place = TrainState(**state)
        if self.place.scale:
            self.scaler.load_state_dict(self.place.scale)


class Normalize:
    """uint8 images to what a model takes: (pixel / 255 - mean) / std, on the device, channels last."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        scale = 1 / (255 * np.asarray(std))
        self._scale = torch.tensor(scale, dtype=torch.float32).view(1, -1, 1, 1).to(device)
        shift = -np.asarray(mean) / np.asarray(std)
        self._shift = torch.tensor(shift, dtype=torch.float32).view(1, -1, 1, 1).to(device)
        self._device = device

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        images = pixels.float().mul_(self._scale).add_(self._shift)
        return images.contiguous(memory_format=torch.channels_last)


def schedule(done: float, warmup: float) -> float:
    """Share of the peak learning rate after a share `done` of all steps: a linear rise, then half a cosine.

    >>> schedule(0.05, 0.1), schedule(0.1, 0.1), round(schedule(0.55, 0.1), 6)
    (0.505, 1.0, 0.5)
    """
    if done < warmup:
        return 0.01 + 0.99 * done / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup)))


def half_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The 16-bit type of mixed precision, or None for float32."""
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


class Clock:
    """Says when some seconds have passed since it last said so."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time; begins anew when it is."""
        if time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True
