"""timm and torchvision models as embedders. Importing this module imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import timm.data
import torch
from torch import nn

from labeltui.embed import hub
from labeltui.embed.embedders import Value
from labeltui.embed.fuse import fuse
from labeltui.embed.spec import CPU_BATCH, EmbedSpec, slug
from labeltui.embed.transform import INTERPOLATIONS, Transform
from labeltui.embed.weights import load_checkpoint, weights_hash
from labeltui.errors import ModelError, UsageError
from labeltui.text import safe

CPU_UNIT = 16  # samples in one pass on one thread: the activations of more fall out of the caches
CUDA_START, CUDA_LIMIT = 64, 1024
TORCHVISION = "torchvision/"
HEADS = ("fc", "classifier", "head", "heads")  # where torchvision's models keep their classifier


class Backbone:
    """A model without its classifier, on one device; see `labeltui.embed.Embedder`.

    Parameters
    ----------
    side_by_side : bool
        Whether small passes run side by side, one a thread, as suits a CPU. Otherwise one large pass runs at a time,
        while the images of the next are uploaded: its size is found by trial where `batch_size` is None, shrinks when
        memory runs out, and what 16 bits cannot hold is repeated in float32. Independent of `device`, so that both can
        be tested on a CPU.
    compiled : bool
        Whether to run the model through `torch.compile`.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        transform: Transform,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        precision: str,
        batch_size: int | None,
        attrs: Mapping[str, Value],
        threads: int,
        side_by_side: bool,
        compiled: bool = False,
    ) -> None:
        self.name = name
        self.transform = transform
        self.device = device
        self.precision = precision
        self.parallel = None if side_by_side else 2
        self._threads = threads
        self._model: Callable[[torch.Tensor], torch.Tensor] = model
        # (pixel / 255 - mean) / std, as one multiplication and one addition.
        scale = 1 / (255 * np.asarray(std))
        self._scale = torch.tensor(scale, dtype=torch.float32).view(1, -1, 1, 1).to(device)
        shift = -np.asarray(mean) / np.asarray(std)
        self._shift = torch.tensor(shift, dtype=torch.float32).view(1, -1, 1, 1).to(device)
        self.dim = self._probe()
        if side_by_side:
            self.batch_size = batch_size or CPU_BATCH
            self.unit = min(self.batch_size, CPU_UNIT)
        else:
            self.batch_size = batch_size or fastest_batch(self._try)
            self.unit = self.batch_size
        self._fits = self.unit  # the largest pass that has not run out of memory
        if compiled:
            self._compile()
        self.attrs = {**attrs, "precision": precision, "device": device.type, "batch_size": self.batch_size}

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return (n, d) float32 rows for (n, H, W, 3) uint8 pixels; thread-safe."""
        if self.parallel is None:
            with one_thread(self._threads):
                return self._forward(pixels, self.precision)
        features, fits = shrinking(lambda part: self._forward(part, self.precision), pixels, self._fits)
        self._fits = min(fits, self._fits)  # another thread may have found less
        overflown = ~np.isfinite(features).all(1)
        if self.precision != "float32" and overflown.any():
            # Beyond the range of 16 bits, perhaps: only what is non-finite in float32 is.
            again, _ = shrinking(lambda part: self._forward(part, "float32"), pixels[overflown], self._fits)
            features[overflown] = again
        return features

    def _forward(self, pixels: npt.NDArray[np.uint8], precision: str) -> npt.NDArray[np.float32]:
        batch = torch.from_numpy(pixels)
        if self.device.type == "cuda":
            batch = self._upload(batch)
        # (n, H, W, 3) in memory is (n, 3, H, W) with the channels last: no copy.
        images = batch.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
        half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(precision)
        with torch.inference_mode(), torch.autocast(self.device.type, half, enabled=half is not None):
            features = self._model(images)
        rows: npt.NDArray[np.float32] = features.float().cpu().numpy()
        return rows

    def _upload(self, batch: torch.Tensor) -> torch.Tensor:
        """Copy pixels to the GPU on a stream of their own, so that it need not wait for the pass that is running."""
        aside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        now = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(aside):
            uploaded = batch.pin_memory().to(self.device, non_blocking=True)
        now.wait_stream(aside)
        uploaded.record_stream(now)
        return uploaded

    def _compile(self) -> None:
        """Compile the model for passes of one unit."""
        self._model = torch.compile(self._model)
        try:
            self.encode(np.zeros((self.unit, self.transform.height, self.transform.width, 3), np.uint8))
        except Exception as error:
            raise ModelError(
                "--compile needs a model and a compiler that torch.compile can use",
                _first_line(error),
                "leave it out",
            ) from None

    def _probe(self) -> int:
        """Return d, from one image."""
        blank = np.zeros((1, self.transform.height, self.transform.width, 3), np.uint8)
        try:
            features = self._forward(blank, "float32")
        except Exception as error:
            raise ModelError(
                f"the model must take RGB images of {self.transform.width} x {self.transform.height} pixels",
                _first_line(error),
                "give another --image-size, or the --model-arg it needs (img_size=... for many transformers)",
            ) from None
        if features.ndim != 2 or features.shape[1] == 0:
            raise ModelError(
                "the model must give one row of numbers for an image",
                f"it gives shape {features.shape}",
                "leave out the --model-arg that changes its pooling",
            )
        return int(features.shape[1])

    def _try(self, size: int) -> float:
        """Return the seconds that a pass of `size` images takes."""
        blank = np.zeros((size, self.transform.height, self.transform.width, 3), np.uint8)
        self._forward(blank, self.precision)
        start = time.perf_counter()
        self._forward(blank, self.precision)
        return time.perf_counter() - start


def fastest_batch(seconds: Callable[[int], float]) -> int:
    """Return the batch size after which twice as many images gain less than 5 % speed, or do not fit.

    Parameters
    ----------
    seconds : callable
        Maps a number of images to the time of one pass; may raise torch.OutOfMemoryError.
    """
    best, rate = CUDA_START, 0.0
    size = CUDA_START
    while size <= CUDA_LIMIT:
        try:
            now = size / seconds(size)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()  # does nothing where CUDA was never used
            break
        if now < rate * 1.05:
            break
        best, rate, size = size, now, size * 2
    return best


@contextmanager
def one_thread(after: int) -> Iterator[None]:
    """Keep torch single-threaded in the calling thread, whose setting is `after` afterwards.

    The setting belongs to each thread. Passes side by side need no barriers, and give the same bytes however many.
    """
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(after)


def shrinking(
    forward: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    pixels: npt.NDArray[np.uint8],
    fits: int,
) -> tuple[npt.NDArray[np.float32], int]:
    """Run a pass in parts that fit into memory.

    Parameters
    ----------
    forward : callable
        Maps (m, ...) to (m, d); may raise torch.OutOfMemoryError.
    pixels : (n, ...) array
    fits : int
        The most rows to try at once.

    Returns
    -------
    rows : (n, d) array
    fits : int
        The most rows that did fit, for the next call.

    Raises
    ------
    ModelError
        A single image does not fit.
    """
    rows: list[npt.NDArray[np.float32]] = []
    start = 0
    while start < len(pixels):
        try:
            rows.append(forward(pixels[start : start + fits]))
        except torch.OutOfMemoryError:
            if fits == 1:
                raise ModelError(
                    "one image must fit into the GPU's memory",
                    "it does not",
                    "give --device cpu or a smaller --image-size",
                ) from None
            fits = min(fits, len(pixels) - start) // 2 or 1
            torch.cuda.empty_cache()
        else:
            start += fits
    return np.concatenate(rows), fits


def load_backbone(spec: EmbedSpec) -> Backbone:
    """Return the model of a specification; see `labeltui.embed.load_embedder`."""
    device = choose_device(spec.devices[0])
    precision = spec.precision
    if precision == "auto":
        precision = "float16" if device.type == "cuda" else "float32"
    model, config = load_model(spec)
    model.eval().requires_grad_(False)
    transform = preprocessing(spec, config)
    mean = triple(spec.mean or tuple(config["mean"]))
    std = triple(spec.std or tuple(config["std"]))
    attrs: dict[str, Value] = {
        "model": spec.model,
        "model_args": " ".join(f"{key}={value!r}" for key, value in sorted(spec.model_args.items())),
        "weights": weights_hash(model),
        "transform": str(transform),
        "mean": list(mean),
        "std": list(std),
        **({"compiled": True} if spec.compile else {}),
    }
    model = model.to(device).to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    with one_thread(threads):
        if device.type == "cpu" and precision == "float32" and not spec.compile:
            model = _fused(model, transform)
        name = slug(spec.model, transform.height)
        return Backbone(
            name,
            model,
            transform,
            mean,
            std,
            device,
            precision,
            spec.batch_size,
            attrs,
            threads,
            side_by_side=device.type == "cpu",
            compiled=spec.compile,
        )


def load_model(spec: EmbedSpec, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """Return a model without its classifier, with its weights, on the CPU; and a data config like timm's.

    Parameters
    ----------
    spec : EmbedSpec
    seed : int
        Of the weights that are random because none were asked for.

    Raises
    ------
    ModelError, UsageError
        As `labeltui.embed.load_embedder`.
    """
    if clash := {"num_classes", "pretrained", "weights", "checkpoint_path"}.intersection(spec.model_args):
        raise UsageError(
            "--model-arg cannot set what labeltui sets itself", f"got {', '.join(sorted(clash))}"
        )
    pretrained = spec.pretrained and spec.checkpoint is None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(
            seed
        )  # without weights the model is random, and must be so in the same way each time
        model, config, classifier = (_torchvision if spec.model.startswith(TORCHVISION) else _timm)(
            spec, pretrained
        )
    if spec.checkpoint is not None:
        load_checkpoint(model, spec.checkpoint, classifier)
    return model, config


def _fused(model: nn.Module, transform: Transform) -> nn.Module:
    try:
        return fuse(model, transform.height, transform.width)
    except Exception:  # a model that fails at this size: the probe gives a better error
        return model


def _timm(spec: EmbedSpec, pretrained: bool) -> tuple[nn.Module, dict[str, Any], tuple[str, ...]]:
    """Return a timm model, its data config, and the names of its classifier."""
    name = spec.model
    if ":" not in name and not timm.is_model(name.partition(".")[0]):
        raise _unknown(name, timm.list_models(), "timm.list_models() lists them")
    arguments = dict(spec.model_args)
    model = _create(lambda: timm.create_model(name, pretrained, num_classes=0, **arguments), name, pretrained)
    config = timm.data.resolve_model_data_config(model)
    size = spec.image_size
    if (
        size is not None
        and size != config["input_size"][-1]
        and "img_size" not in arguments
        and _has_fixed_size(model)
    ):
        arguments["img_size"] = size
        model = _create(
            lambda: timm.create_model(name, pretrained, num_classes=0, **arguments), name, pretrained
        )
    classifier = model.pretrained_cfg.get("classifier") or ()
    return model, config, (classifier,) if isinstance(classifier, str) else tuple(classifier)


def _has_fixed_size(model: nn.Module) -> bool:
    """Return whether a timm model (a transformer, as a rule) is built for one input size."""
    embed = getattr(model, "patch_embed", None)
    return getattr(embed, "img_size", None) is not None and bool(getattr(embed, "strict_img_size", True))


def _torchvision(spec: EmbedSpec, pretrained: bool) -> tuple[nn.Module, dict[str, Any], tuple[str, ...]]:
    """Return a torchvision model without its classifier, a data config like timm's, and the classifier's
    name."""
    from torchvision import models

    name = spec.model.removeprefix(TORCHVISION)
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown(name, known, "torchvision.models.list_models() lists them", TORCHVISION)
    weights = models.get_model_weights(name).DEFAULT
    model = _create(
        lambda: models.get_model(name, weights=weights if pretrained else None, **spec.model_args),
        spec.model,
        pretrained,
    )
    head = next((head for head in HEADS if hasattr(model, head)), None)
    if head is None:
        raise ModelError(
            "the model must have a known classifier", f"{safe(name)} has none of {', '.join(HEADS)}"
        )
    classifier = _behead(model, head)
    preset = weights.transforms()
    size, short = preset.crop_size[0], preset.resize_size[0]
    config = {
        "input_size": (3, size, size),
        "mean": preset.mean,
        "std": preset.std,
        "interpolation": preset.interpolation.value,
        "crop_pct": size / short,
        "crop_mode": "center",
    }
    return model, config, (classifier,)


def _behead(model: nn.Module, head: str) -> str:
    """Replace the last layer with weights inside `model.head` by nothing; return its name."""
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if (name == head or name.startswith(f"{head}.")) and isinstance(layer, nn.Linear | nn.Conv2d)
    }
    name: str = list(layers)[-1]
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Identity())
    return name


def _create(build: Callable[[], nn.Module], name: str, pretrained: bool) -> Any:
    """Build a model; what its library raises becomes a ModelError."""
    try:
        # A name with a colon is looked up on the hub even without weights.
        with hub.offline_if_unreachable() if pretrained or ":" in name else nullcontext():
            return build()
    except TypeError as error:
        raise ModelError(
            f"{safe(name)} must accept the --model-arg values",
            _first_line(error),
            "correct them or leave them out",
        ) from None
    except Exception as error:
        if not pretrained:
            raise ModelError(
                f"{safe(name)} must be buildable", _first_line(error), "check --model and --model-arg"
            ) from None
        raise ModelError(
            f"the published weights of {safe(name)} must be in the local cache or downloadable",
            _first_line(error),
            "connect to the network once, or give --checkpoint FILE, or --no-pretrained for random weights",
        ) from None


def _unknown(name: str, known: list[str], where: str, prefix: str = "") -> ModelError:
    close = [prefix + item for item in get_close_matches(name.partition(".")[0], known, 3)]
    hint = f"did you mean {' or '.join(close)}? {where}" if close else where
    return ModelError("the model must be one that is known", f"got {safe(prefix + name)}", hint)


def choose_device(name: str) -> torch.device:
    """Return the device; for CUDA it must be there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise UsageError(
            f"--device {name} needs that GPU",
            f"torch sees {count or 'none'}",
            "give --device cpu, or install a torch with CUDA",
        )
    return torch.device("cuda", index)


def preprocessing(spec: EmbedSpec, config: Mapping[str, Any]) -> Transform:
    """Return the preprocessing of a timm data config, overridden by the spec where it sets a value.

    Parameters
    ----------
    spec : EmbedSpec
    config : mapping
        timm's data config: ``input_size``, ``crop_pct``, ``interpolation``.

    Returns
    -------
    Transform
    """
    height, width = config["input_size"][1:]
    crop = spec.crop_pct
    if spec.image_size is not None:
        height = width = spec.image_size
    elif crop is None:
        crop = float(config["crop_pct"])
    interpolation = spec.interpolation or str(config["interpolation"])
    if interpolation not in INTERPOLATIONS:
        interpolation = "bicubic"
    squash = spec.crop_pct is None and config.get("crop_mode") == "squash"
    return Transform(int(height), int(width), interpolation, crop, squash)


def triple(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * 3 if len(values) == 1 else values


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    kind: str = type(error).__name__
    return safe(f"{kind}: {text}" if text else kind, 300)
