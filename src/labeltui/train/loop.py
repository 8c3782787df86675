"""The training loop: `Trainer.run` and what it calls.

The order of the samples and every augmentation depend only on (seed, model, epoch, batch), and torch's own draws
(dropout, drop path) on a generator state stored in the checkpoint. So a run resumed from a checkpoint, even within an
epoch, takes the same steps as an uninterrupted one.
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
LOSS_EVERY = 20  # steps between two reads of the loss on a GPU, each of which synchronises
ABSENT = -30.0  # added to the logits of classes without training samples

State = dict[str, Any]


@dataclass
class TrainState:
    """Progress of a training.

    Attributes
    ----------
    epoch, step : int
        Finished epochs, and finished steps of the current epoch.
    pass_size : int
        Samples per forward pass; halved when memory runs out.
    best, best_epoch, worse : float, int, int
        Lowest validation loss, its epoch, and the epochs since; with patience only.
    history : list
        One entry per epoch: ``loss``, and with validation samples ``watch_loss`` and ``accuracy``.
    """

    epoch: int = 0
    step: int = 0
    pass_size: int = 0
    loss_sum: float = 0.0
    best: float = math.inf
    best_epoch: int = -1
    worse: int = 0
    scale: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingContext:
    """Inputs and callbacks of a training.

    Attributes
    ----------
    spec : BackboneSpec
    images : TrainingImages
    labels : ndarray of int32, shape (N,)
    weights : ndarray of float32, shape (N,), optional
    rows, watch : ndarray of int64
        Training samples, and labelled validation samples (possibly none), which also stop the training early if the
        spec has patience.
    seen : ndarray of bool, shape (K,)
        Classes that occur in `rows`.
    key : tuple of int
        Seed and number of the model.
    device : torch.device
    mean, std : tuple of float
    record, clean : Recorder or None
        Dynamics of the training steps, and of passes without augmentation.
    report : callable
        Called with the finished fraction of the steps, and after an epoch with its history entry.
    keep : callable
        Called after each epoch to write a checkpoint.
    stop : callable
        Called after each training step; raises to stop, having called `keep` where a checkpoint is needed.
    check : callable
        The same between batches of prediction.
    finish_epoch : callable
        Called with the number of a finished epoch, before its checkpoint.
    note : callable
        Called with messages for the user.
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
    keep: Callable[[Trainer], None]
    stop: Callable[[Trainer], None]
    check: Callable[[Trainer], None]
    finish_epoch: Callable[[int], None]
    note: Callable[[str], None]


class Trainer:
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
        self.train_state = TrainState(pass_size=spec.micro_batch or 2 * spec.batch_size)
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
        self._waiting: list[torch.Tensor] = []  # losses not read yet

    @property
    def shown(self) -> nn.Module:
        """The model that predicts: the moving average if there is one."""
        return self.model if self.ema is None else self.ema.module

    def run(self) -> nn.Module:
        """Train from `train_state` to the end and return the model that predicts."""
        context, spec, train_state = self.context, self.context.spec, self.train_state
        total = spec.epochs * self.steps
        while train_state.epoch < spec.epochs and not (spec.patience and train_state.worse >= spec.patience):
            order = np.random.default_rng([*context.key, train_state.epoch]).permutation(context.rows)
            parts = np.array_split(order, self.steps)[train_state.step :]
            augment = Augmenter(spec.augment, [*context.key, train_state.epoch], train_state.step)
            training_mode(self.model)
            for index, pixels in batches(context.images, parts, augment):
                done = train_state.epoch * self.steps + train_state.step
                for group in self.optimiser.param_groups:
                    group["lr"] = spec.learning_rate * group["lr_scale"] * schedule(done / total, spec.warmup)
                loss = self._step(index, pixels)
                if self.ema is not None:
                    self.ema.update(self.model, step=done + 2)
                train_state.step += 1
                self._add(loss)
                context.report((done + 1) / total)
                context.stop(self)
            self._settle()
            entry = {"loss": train_state.loss_sum / self.steps}
            if len(context.watch):
                entry |= self._watch()
            if context.clean is not None:
                self._pass(context.rows, context.clean)
            train_state.history.append(entry)
            context.finish_epoch(train_state.epoch)
            train_state.epoch, train_state.step, train_state.loss_sum = train_state.epoch + 1, 0, 0.0
            context.report(
                train_state.epoch / spec.epochs, epoch=train_state.epoch, epochs=spec.epochs, **entry
            )
            context.keep(self)
        if self._best:
            self.shown.load_state_dict(self._best)
        return self.shown

    def _step(self, index: Rows, pixels: torch.Tensor) -> torch.Tensor:
        """One optimiser step on a batch, in as many passes as memory requires; returns the loss."""
        while True:
            with suppress(torch.OutOfMemoryError):
                return self._passes(index, pixels)
            # The same batch in smaller parts: their gradients add up to the same step.
            self._halve(len(index))

    def _halve(self, size: int) -> None:
        """Halve the pass size after a pass of at most `size` samples ran out of memory."""
        train_state, spec = self.train_state, self.context.spec
        if train_state.pass_size == 1:
            raise ModelError(
                "the training of one image must fit into the GPU's memory",
                "it does not",
                "give a smaller --image-size or model, or --device cpu",
            )
        train_state.pass_size = max(1, min(train_state.pass_size, size) // 2)
        self.context.note(
            f"out of GPU memory: from epoch {train_state.epoch + 1} on a step of {spec.batch_size} takes passes of "
            f"{train_state.pass_size}"
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
        passes = -(-len(index) // self.train_state.pass_size)
        for places in np.array_split(np.arange(len(index)), passes):
            part = slice(
                int(places[0]), int(places[-1]) + 1
            )  # of equal sizes: batch norm cannot take a single sample
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
        """Accumulate the loss; on a GPU a few steps at a time."""
        self._waiting.append(loss)
        if self.context.device.type == "cpu" or len(self._waiting) >= LOSS_EVERY:
            self._settle()

    def _settle(self) -> None:
        """Add the pending losses, which synchronises with the device, and check that they are finite."""
        for loss in self._waiting:
            self.train_state.loss_sum += float(loss)
        self._waiting.clear()
        if not math.isfinite(self.train_state.loss_sum):
            train_state = self.train_state
            raise JobError(
                "the loss must stay finite",
                f"it is {train_state.loss_sum} in epoch {train_state.epoch + 1}, step {train_state.step} of "
                f"{self.steps}; the last good checkpoint is kept",
                "start again with a smaller --learning-rate, or with --precision float32",
            )

    def _watch(self) -> dict[str, float]:
        """Loss and accuracy on the validation samples; with patience, keeps the weights of the best epoch."""
        train_state, watch = self.train_state, self.context.watch
        p = self.predict(watch)
        labels = self.context.labels[watch]
        own = p[np.arange(len(watch)), labels]
        loss = float(-np.log(np.maximum(own, 1e-12)).mean())
        if self.context.spec.patience:
            if loss < train_state.best:
                train_state.best, train_state.best_epoch, train_state.worse = loss, train_state.epoch, 0
                self._best = {name: each.detach().clone() for name, each in self.shown.state_dict().items()}
            else:
                train_state.worse += 1
        return {"watch_loss": loss, "accuracy": float((p.argmax(axis=1) == labels).mean())}

    def _pass(self, rows: Rows, recorder: Recorder) -> None:
        for index, logits in self._logits(rows):
            at = torch.from_numpy(index).to(self.context.device)
            recorder.note(at, logits + self._absent, self._labels[at])

    def _logits(self, rows: Rows) -> Iterator[tuple[Rows, torch.Tensor]]:
        """Samples and their logits (b, K), a batch at a time."""

        def logits(images: torch.Tensor) -> torch.Tensor:
            with torch.autocast(self.context.device.type, self.half) if self.half else nullcontext():
                output: torch.Tensor = self.shown(images)
            return output

        return self._shown(rows, logits)

    def _shown(
        self, rows: Rows, call: Callable[[torch.Tensor], torch.Tensor]
    ) -> Iterator[tuple[Rows, torch.Tensor]]:
        """Samples and the output of `call` on their unaugmented images, float32, in passes that fit into memory."""
        self.shown.eval()
        parts = [rows[start : start + PREDICT_BATCH] for start in range(0, len(rows), PREDICT_BATCH)]
        for index, pixels in batches(self.context.images, parts, plain):
            start = 0
            while start < len(index):
                part, output = slice(start, start + self.train_state.pass_size), None
                with suppress(torch.OutOfMemoryError), torch.inference_mode():
                    output = call(self._normalize(pixels[part])).float()
                if output is None:
                    self._halve(len(index) - start)
                else:
                    yield index[part], output
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
        """Inputs of the classifier, (n, d) float32, for the samples `rows`."""
        model: Any = self.shown

        def pooled(images: torch.Tensor) -> torch.Tensor:
            pooled_output: torch.Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
            return pooled_output

        output = torch.cat([pooled_output.cpu() for _, pooled_output in self._shown(rows, pooled)])
        features: npt.NDArray[np.float32] = output.numpy()
        return features

    # checkpoints

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor of the state."""
        output = checkpoints.prefixed("model", self.model.state_dict())
        output |= checkpoints.prefixed("optimiser", checkpoints.optimiser_tensors(self.optimiser))
        output["random.cpu"] = torch.get_rng_state()
        if self.context.device.type == "cuda":
            output["random.cuda"] = torch.cuda.get_rng_state(self.context.device)
        if self.ema is not None:
            output |= checkpoints.prefixed("ema", self.ema.module.state_dict())
        if self.context.record is not None and self.train_state.step:
            output |= checkpoints.prefixed("record", self.context.record.tensors())
        return output | checkpoints.prefixed("best", self._best)

    def state(self) -> State:
        """Every plain number of the state."""
        self._settle()
        self.train_state.scale = self.scaler.state_dict()
        return asdict(self.train_state)

    def load(self, tensors: dict[str, torch.Tensor], state: State) -> None:
        """Restore a state saved by `tensors` and `state`.

        Parameters
        ----------
        tensors : dict of str to Tensor
            From `tensors`.
        state : dict
            From `state`.
        """
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
        self.train_state = TrainState(**state)
        if self.train_state.scale:
            self.scaler.load_state_dict(self.train_state.scale)


class Normalize:
    """Converts uint8 images to model input: (pixel / 255 - mean) / std, on the device, channels last."""

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
    """Fraction of the peak learning rate: linear warm-up, then half a cosine.

    Parameters
    ----------
    done : float
        Finished fraction of all steps.
    warmup : float
        Fraction of the steps in which the rate rises.

    Returns
    -------
    float

    >>> schedule(0.05, 0.1), schedule(0.1, 0.1), round(schedule(0.55, 0.1), 6)
    (0.505, 1.0, 0.5)
    """
    if done < warmup:
        return 0.01 + 0.99 * done / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup)))


def half_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The 16-bit type of mixed precision, or None for float32.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16"}
    device : torch.device

    Returns
    -------
    torch.dtype or None
    """
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


class Clock:
    """Timer that is due once every few seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the time has passed; restarts the timer if so."""
        if time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True
