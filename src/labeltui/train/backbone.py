"""The job that fine-tunes a backbone on the images: one model per fold, or a single one.

::

    images --TrainingImages--> one Trainer per model --p of held-out samples--> predictions, metrics
                              |  epochs/00007.npz, checkpoints/last.safetensors
                              v
    out-of-fold p --> detectors --> result.h5          (and, re-embedded: features --> graph --> result.h5)

A finished model leaves ``parts/<name>.npz``; a resumed run skips it. The unfinished one resumes from
``checkpoints/last.safetensors``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labeltui import head, parallel, paths
from labeltui.embed import EmbedSpec
from labeltui.embed.backbone import choose_device, load_model, preprocessing, triple
from labeltui.embed.memory import retain_heap
from labeltui.embed.spec import slug
from labeltui.errors import Cancelled, JobError, UsageError
from labeltui.io.atomic import replacing
from labeltui.sources import ScannedImages, open_images
from labeltui.text import safe, tell_apart
from labeltui.train import checkpoints, dynamics
from labeltui.train.dynamics import Recorder
from labeltui.train.images import Rows, TrainingImages
from labeltui.train.loop import Clock, Trainer, TrainingContext
from labeltui.train.predictions import Predictions
from labeltui.train.reembed import reembed
from labeltui.train.scoring import TUNED, View, rescore
from labeltui.train.spec import HELD_OUT, TRAIN, BackboneSpec
from labeltui.train.task import Paused, Task

CHECKPOINT_SECONDS = 120.0  # between two checkpoints within an epoch
MAX_LOST = 0.1  # a larger fraction of lost images means that they were moved
PARTS = "parts"
READ_FRACTION, SCORE_FRACTION = 0.02, 0.05
WATCH_FOLDS = 10
# Held-out samples that monitor the training, as a fraction of the training samples.
VALIDATION_FRACTION, MIN_VALIDATION = 0.05, 64


@dataclass(frozen=True)
class FoldModel:
    """One model of the job.

    Attributes
    ----------
    number : int
    name : str
        ``fold0``, ..., or ``all``.
    train, predict : ndarray of int64
    watched : ndarray of bool, shape (N,)
        Samples whose training dynamics this model records.
    """

    number: int
    name: str
    train: Rows
    predict: Rows
    watched: npt.NDArray[np.bool_]


def train_backbone(task: Task) -> dict[str, Any]:
    """Train, predict, measure, and write the result of a generation.

    Returns
    -------
    dict
        For exit.json: ``metrics`` on the held-out samples (or out of fold), ``weights`` (the initial ones), and
        ``flags`` if the run has new scores.
    """
    spec = task.spec
    assert spec.backbone is not None
    where = choose_device(spec.device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(parallel.limit_blas(spec.threads))
        stack.enter_context(_deterministic(spec.threads))
        stack.enter_context(retain_heap())
        return _BackboneJob(task, spec.backbone, where).run()


@contextlib.contextmanager
def _deterministic(n_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    was = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(n_threads)
    # CPU operations are all deterministic; CUDA operations without a deterministic form only warn.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(was)


class _BackboneJob:
    def __init__(self, task: Task, spec: BackboneSpec, where: torch.device) -> None:
        self.task = task
        self.spec = spec
        self.device = where
        self.directory: Path = task.job.directory
        self.n_classes = len(task.audit.class_ids)
        self.embed = EmbedSpec(
            spec.model,
            pretrained=spec.pretrained,
            checkpoint=None if spec.checkpoint is None else Path(spec.checkpoint),
            model_args={**({"drop_rate": spec.drop_rate} if spec.drop_rate else {}), **spec.model_args},
            image_size=spec.image_size,
        )
        self.parts, self.fold = self._divide()
        self.span = (1 - READ_FRACTION - SCORE_FRACTION) / len(self.parts)
        self.trainer: Trainer | None = None

    def run(self) -> dict[str, Any]:
        task, job = self.task, self.task.job
        todo = [part for part in self.parts if not self._path(part).exists()]
        embedding: tuple[npt.NDArray[np.float32], str] | None = None
        probabilities: dict[str, tuple[Rows, npt.NDArray[np.float32]]] = {}
        with contextlib.closing(self._images()) as images:
            job.event("read", 0.0)
            images.read(lambda fraction: job.event("read", READ_FRACTION * min(fraction, 1.0)), job.cancelled)
            self._check_lost(images)
            for part in todo:
                self._train(part, images)
            if self.spec.reembed:
                embedding = self._features(images)
            self._check_lost(images)
        for part in self.parts:
            with np.load(self._path(part), allow_pickle=False) as data:
                probabilities[part.name] = data["rows"], data["p"]
        (self.directory / paths.CHECKPOINTS / checkpoints.LAST).unlink(missing_ok=True)
        self._consolidate()
        more: dict[str, Any] = {
            "weights": _describe_weights(self.spec),
            "metrics": self._measure(probabilities),
            "lost": len(images.lost),
        }
        if task.spec.folds or embedding is not None:
            more |= self._score(probabilities, embedding)
        return more

    # splits

    def _divide(self) -> tuple[list[FoldModel], npt.NDArray[np.int8]]:
        task, spec = self.task, self.task.spec
        training, held = task.roles == TRAIN, np.flatnonzero(task.roles == HELD_OUT)
        everything = FoldModel(0, "all", np.flatnonzero(training), held, training)
        if not spec.folds:
            return [everything], np.full(len(training), -1, dtype=np.int8)
        groups = task.audit.array("groups/duplicate")
        fold = head.folds(task.labels, groups, training, spec.folds, spec.seed)
        n_folds = int(fold.max()) + 1
        if n_folds < 2:
            raise JobError("folds need at least two groups of samples", f"got {int(training.sum())} samples")
        # Samples outside the folds (unlabelled, excluded, held out) are predicted by every model and averaged.
        loose = np.flatnonzero((task.audit.status == paths.OK) & (fold < 0))
        parts = [
            FoldModel(
                number,
                f"fold{number}",
                np.flatnonzero((fold >= 0) & (fold != number)),
                np.concatenate([np.flatnonzero(fold == number), loose]),
                fold == (number - 1) % n_folds,
            )
            for number in range(n_folds)
        ]
        if self.spec.reembed:
            parts.append(replace(everything, number=n_folds, watched=np.zeros_like(training)))
        return parts, fold

    def _images(self) -> TrainingImages:
        audit = self.task.audit
        description = audit.scan.get("source")
        if not isinstance(description, Mapping):
            raise JobError("the audit must name its images to train a backbone", "scan.json names none")
        root = Path(self.task.spec.source_root or str(audit.scan.get("root", "")))
        wanted = np.unique(np.concatenate([[*part.train, *part.predict] for part in self.parts])).astype(
            np.int64
        )
        if self.spec.reembed:
            wanted = np.flatnonzero(audit.status == paths.OK)
        _, config = load_model(replace(self.embed, pretrained=False, checkpoint=None))
        self.config = config
        transform = preprocessing(self.embed, config)
        images = ScannedImages(
            open_images(description, root), audit.array("samples/sha256"), audit.array("samples/pixels")
        )
        return TrainingImages(images, audit.names("samples/id"), transform, wanted, self.task.spec.threads)

    def _check_lost(self, images: TrainingImages) -> None:
        if not images.lost:
            return
        example = min(images.lost)
        description = (
            f"{len(images.lost):,} of {len(images.rows):,}, the first: {safe(images.lost[example], 200)}"
        )
        if len(images.lost) > MAX_LOST * len(images.rows):
            raise JobError(
                "the images must be where the scan found them",
                f"missing, broken or changed: {description}",
                "give --source DIR",
            )
        if self.spec.reembed:
            raise JobError(
                "a new embedding needs every image of the scan",
                f"missing, broken or changed: {description}",
                "restore them, scan the data again, or leave out --reembed",
            )
        self.task.job.note(f"images lost or changed since the scan are left out of training: {description}")

    # one model

    def _train(self, part: FoldModel, images: TrainingImages) -> None:
        task, job, spec = self.task, self.task.job, self.spec
        rows = part.train
        if spec.patience:
            groups = task.audit.array("groups/duplicate")
            chosen = np.zeros(len(task.labels), dtype=bool)
            chosen[rows] = True
            dealt = head.folds(task.labels, groups, chosen, WATCH_FOLDS, task.spec.seed)
            rows, watch = np.flatnonzero(chosen & (dealt != 0)), np.flatnonzero(dealt == 0)
        else:
            watch = self._validation_sample(part)
        seen = np.zeros(self.n_classes, dtype=bool)
        seen[np.unique(task.train_labels[rows])] = True
        self._note_missing_classes(part, seen)
        begin = READ_FRACTION + part.number * self.span
        clock = Clock(CHECKPOINT_SECONDS)
        number = part.number * spec.epochs

        def report(fraction: float, **more: float) -> None:
            job.event(
                self._stage(part),
                begin + self.span * fraction,
                **more,
                **({"model": part.number} if more else {}),
            )

        def keep(trainer: Trainer) -> None:
            path = self.directory / paths.CHECKPOINTS / checkpoints.LAST
            checkpoints.write(path, trainer.tensors(), {"part": part.name, **trainer.state()})

        def check(trainer: Trainer) -> None:
            if job.cancelled():
                keep(trainer)
                raise Cancelled("the run was stopped", "a checkpoint was written")

        def stop(trainer: Trainer) -> None:
            check(trainer)
            if job.time_limit_reached():
                keep(trainer)
                raise Paused
            if clock.due():
                keep(trainer)

        def finish_epoch(epoch: int) -> None:
            for recorder, name in ((context.record, ""), (context.clean, "clean-")):
                if recorder is not None:
                    recorder.finish(self.directory, number + epoch, name)

        key = (task.spec.seed, part.number)
        record = Recorder(part.watched, self.device) if part.watched.any() else None
        clean = Recorder(part.watched, self.device) if spec.clean_pass and record is not None else None
        context = TrainingContext(
            spec=spec,
            images=images,
            labels=task.train_labels,
            weights=task.weights,
            rows=rows,
            watch=watch,
            seen=seen,
            key=key,
            device=self.device,
            mean=triple(tuple(self.config["mean"])),
            std=triple(tuple(self.config["std"])),
            record=record,
            clean=clean,
            report=report,
            keep=keep,
            stop=stop,
            check=check,
            finish_epoch=finish_epoch,
            note=job.note,
        )
        trainer = Trainer(self._model(part), context)
        self._resume(part, trainer)
        trainer.run()
        self.trainer = trainer
        p = trainer.predict(part.predict)
        if part.name == "all":
            checkpoints.write(
                self.directory / paths.CHECKPOINTS / checkpoints.MODEL,
                trainer.shown.state_dict(),
                {"model": spec.model, "classes": [name.decode("utf-8", "backslashreplace") for name in
                                                  task.audit.class_ids]},
            )  # fmt: skip
        path = self._path(part)
        path.parent.mkdir(exist_ok=True)
        known = ~np.isin(part.predict, list(images.lost))
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, rows=part.predict[known], p=p[known])

    def _validation_sample(self, part: FoldModel) -> Rows:
        """A sample of the rows that a model predicts, to monitor its training: all of them would cost too much."""
        unseen = part.predict[self.task.labels[part.predict] >= 0]
        count = min(len(unseen), max(MIN_VALIDATION, round(VALIDATION_FRACTION * len(part.train))))
        rng = np.random.default_rng([self.task.spec.seed, part.number])
        return np.sort(rng.choice(unseen, count, replace=False))

    def _stage(self, part: FoldModel) -> str:
        return "model" if part.name == "all" else f"fold {part.number + 1} of {int(self.fold.max()) + 1}"

    def _resume(self, part: FoldModel, trainer: Trainer) -> None:
        path = self.directory / paths.CHECKPOINTS / checkpoints.LAST
        if not path.exists():
            return
        tensors, state = checkpoints.read(path)
        if (
            state.pop("part", None) == part.name
        ):  # otherwise it belongs to the previous model, which is finished
            trainer.load(tensors, state)
            reached = trainer.train_state
            self.task.job.note(f"{part.name} resumes after epoch {reached.epoch}, step {reached.step}")

    def _model(self, part: FoldModel) -> torch.nn.Module:
        model, _ = load_model(self.embed, seed=self.task.spec.seed * 1000 + part.number)
        if not hasattr(model, "reset_classifier"):
            raise UsageError(
                "fine-tuning needs a timm model",
                f"got {safe(self.spec.model)}",
                "timm.list_models() lists them",
            )
        # Seeds the model's random stream: its new classifier, and dropout in training.
        torch.manual_seed(self.task.spec.seed * 1000 + part.number)
        model.reset_classifier(self.n_classes)
        placed: torch.nn.Module = model.to(self.device).to(memory_format=torch.channels_last)
        return placed

    def _note_missing_classes(self, part: FoldModel, seen: npt.NDArray[np.bool_]) -> None:
        if not seen.all():
            names = tell_apart(self.task.audit.class_names, self.task.audit.class_ids)
            missing = [names[index] for index in np.flatnonzero(~seen)]
            self.task.job.note(
                f"{part.name}: no training sample of {', '.join(missing[:5])}"
                + (f" and {len(missing) - 5} more classes" if len(missing) > 5 else "")
                + "; the model never predicts these"
            )

    def _path(self, part: FoldModel) -> Path:
        return self.directory / PARTS / f"{part.name}.npz"

    # results

    def _consolidate(self) -> None:
        epochs = self.spec.epochs
        recorded = [part for part in self.parts if part.watched.any()]
        if not (self.directory / paths.EPOCHS).is_dir():
            return  # consolidated before a resume
        for name in ("", *(["clean-"] if self.spec.clean_pass else [])):
            files = [[part.number * epochs + epoch for part in recorded] for epoch in range(epochs)]
            dynamics.consolidate(self.directory, self.task.train_labels, self.fold, files, name)
        dynamics.clear(self.directory)

    def _measure(
        self, probabilities: dict[str, tuple[Rows, npt.NDArray[np.float32]]]
    ) -> dict[str, float] | None:
        """Measure on the held-out samples, or out of fold if there are none."""
        task = self.task
        held = task.roles == HELD_OUT
        if held.any():
            wanted, on = np.flatnonzero(held), task.spec.held_out
        else:
            wanted, on = np.flatnonzero(self.fold >= 0), "out of fold"
        wanted = np.intersect1d(wanted, np.concatenate([rows for rows, _ in probabilities.values()]))
        if not len(wanted):
            return None
        rows = np.arange(len(task.labels))
        p = self._average(probabilities)
        names = [name.decode("utf-8", "backslashreplace") for name in task.audit.class_ids]
        measured = Predictions.of(rows[wanted], p[wanted]).write(self.directory, task.labels, names, on)
        return measured.summary()

    def _average(
        self, probabilities: dict[str, tuple[Rows, npt.NDArray[np.float32]]]
    ) -> npt.NDArray[np.float32]:
        """Out-of-fold probabilities (N, K), averaged over the models that predict a sample; uniform without any."""
        n = len(self.task.labels)
        total = np.zeros((n, self.n_classes), dtype=np.float32)
        times = np.zeros(n, dtype=np.int64)
        folds = [part for part in self.parts if part.name != "all"] or self.parts
        for part in folds:
            rows, p = probabilities[part.name]
            total[rows] += p
            times[rows] += 1
        total[times > 0] /= times[times > 0, None]
        total[times == 0] = 1.0 / self.n_classes
        return total

    def _features(self, images: TrainingImages) -> tuple[npt.NDArray[np.float32], str]:
        """The fine-tuned embedding and its name."""
        part = next(part for part in self.parts if part.name == "all")
        if self.trainer is None:  # trained before a resume
            nothing = np.zeros(0, dtype=np.int64)
            self.trainer = Trainer(self._model(part), self._without_training(images, nothing))
            tensors, _ = checkpoints.read(self.directory / paths.CHECKPOINTS / checkpoints.MODEL)
            self.trainer.shown.load_state_dict(tensors)
        rows = np.flatnonzero(self.task.audit.status == paths.OK)
        self.task.job.event("embed", 1 - SCORE_FRACTION)
        features = self.trainer.features(rows)
        out = np.zeros((len(self.task.labels), features.shape[1]), dtype=np.float32)
        out[rows] = features
        digest = hashlib.sha256(json.dumps(asdict(self.task.spec), sort_keys=True).encode()).hexdigest()[:8]
        return out, f"{slug(self.spec.model, images.transform.height)}-tuned-{digest}"

    def _without_training(self, images: TrainingImages, nothing: Rows) -> TrainingContext:
        def stop(trainer: Trainer) -> None:
            if self.task.job.cancelled():
                raise Cancelled("the run was stopped", "while images were embedded")

        return TrainingContext(
            spec=self.spec,
            images=images,
            labels=self.task.labels,
            weights=None,
            rows=np.zeros(1, dtype=np.int64),
            watch=nothing,
            seen=np.ones(self.n_classes, dtype=bool),
            key=(0,),
            device=self.device,
            mean=triple(tuple(self.config["mean"])),
            std=triple(tuple(self.config["std"])),
            record=None,
            clean=None,
            report=lambda fraction, **more: None,
            keep=lambda trainer: None,
            stop=stop,
            check=stop,
            finish_epoch=lambda epoch: None,
            note=self.task.job.note,
        )

    def _score(
        self,
        probabilities: dict[str, tuple[Rows, npt.NDArray[np.float32]]],
        embedding: tuple[npt.NDArray[np.float32], str] | None,
    ) -> dict[str, Any]:
        task, job = self.task, self.task.job
        extra: dict[str, npt.NDArray[Any]] = {}
        attrs: dict[str, dict[str, Any]] = {}
        tuned = None
        if task.spec.folds:
            tuned = self._average(probabilities)
            extra[TUNED] = tuned
            attrs[TUNED] = {"model": self.spec.model, "labels": task.spec.labels, "folds": task.spec.folds}
        view = View(task.audit)
        if embedding is not None:
            features, name = embedding
            arrays, more = reembed(task, features, name, self.spec)
            extra |= arrays
            attrs |= more
            view = View(task.audit, arrays, name)
        return rescore(
            task,
            view,
            lambda done: job.event("score", 1 - SCORE_FRACTION * (1 - done)),
            tuned=tuned,
            extra=extra,
            extra_attrs=attrs,
        )


def _describe_weights(spec: BackboneSpec) -> str:
    if spec.checkpoint is not None:
        return f"checkpoint {Path(spec.checkpoint).name}"
    return "pretrained (published weights)" if spec.pretrained else "random (from scratch)"
