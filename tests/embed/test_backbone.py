"""Backbones: the published function, whatever the threads; weights that fit or say why not."""

from __future__ import annotations

import argparse
import socket
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui.embed import EmbedSpec, Transform, batch_ranges, load_embedder, stream
from labeltui.errors import ModelError, UsageError
from labeltui.sources import open_source

torch = pytest.importorskip("torch")
import timm  # noqa: E402 - after the check for torch
import timm.data  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from labeltui.embed import hub  # noqa: E402
from labeltui.embed.backbone import Backbone, fastest_batch, preprocessing, shrinking  # noqa: E402
from labeltui.embed.fuse import fuse  # noqa: E402
from labeltui.embed.weights import load_checkpoint  # noqa: E402

TINY = "test_efficientnet"
CPU = torch.device("cpu")


def pixels(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def spec(model: str = TINY, **options: object) -> EmbedSpec:
    return EmbedSpec(model, **{"pretrained": False, "image_size": 32, "device": "cpu", **options})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A classifier of three classes with statistics that are not those of a new model, and its file."""
    torch.manual_seed(1)
    model = timm.create_model(TINY, num_classes=3)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(model.state_dict(), path)
    return path, model.eval()


def reference(model: torch.nn.Module, batch: np.ndarray, mean: float, std: float) -> np.ndarray:
    images = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        return model.forward_head(model.forward_features((images - mean) / std), pre_logits=True).numpy()


def test_rows_are_the_pooled_features(trained: tuple[Path, torch.nn.Module]) -> None:
    path, model = trained
    embedder = load_embedder(spec(checkpoint=path, mean=(0.4,), std=(0.3, 0.3, 0.3)))
    batch = pixels(embedder.unit, 32)
    rows = embedder.encode(batch)
    expected = reference(model, batch, 0.4, 0.3)
    assert rows.dtype == np.float32
    assert rows.shape == (16, embedder.dim) == expected.shape
    np.testing.assert_allclose(rows, expected, atol=1e-4 * abs(expected).max())
    assert (embedder.name, embedder.batch_size, embedder.unit) == ("test_efficientnet-32", 64, 16)
    assert embedder.attrs["precision"] == "float32"
    assert embedder.attrs["mean"] == [0.4, 0.4, 0.4]


def test_normalisation_is_folded_and_the_function_kept(trained: tuple[Path, torch.nn.Module]) -> None:
    _, model = trained
    folded = fuse(model, 32, 32)
    norms = [sum(isinstance(part, torch.nn.BatchNorm2d) for part in m.modules()) for m in (model, folded)]
    assert norms[0] > 5
    assert norms[1] == 0
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), model(images), atol=1e-4, rtol=1e-4)


class Shared(torch.nn.Module):
    """One normalisation after two convolutions, and one whose input is used twice: neither can be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norm, self.other = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
        for norm in (self.norm, self.other):
            norm.running_var.fill_(3)
            norm.running_mean.fill_(0.7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.b(self.norm(self.a(x))))
        z = self.c(y)
        return (self.other(z) + z).mean((2, 3))


def test_what_cannot_be_folded_stays() -> None:
    model = Shared().eval()
    kept = fuse(model, 8, 8)
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(kept(images), model(images))
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in kept.modules())


def test_bytes_do_not_depend_on_threads_or_what_went_before(
    tmp_path: Path, trained: tuple[Path, torch.nn.Module]
) -> None:
    for index, image in enumerate(pixels(70, 20)):
        (tmp_path / "xy"[index % 2]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "xy"[index % 2] / f"{index}.png")
    source = open_source(tmp_path)
    embedder = load_embedder(spec(checkpoint=trained[0], batch_size=32))
    before = torch.get_num_threads()
    runs = [
        list(stream(source, embedder, batch_ranges(70, 32), workers=0, threads=threads)) for threads in (1, 4)
    ]
    assert [block.stop for block in runs[0]] == [32, 64, 70]
    for one, four in zip(*runs, strict=True):
        assert one.features.tobytes() == four.features.tobytes()
    assert torch.get_num_threads() == before
    again = load_embedder(spec(checkpoint=trained[0], batch_size=32))
    (resumed,) = stream(source, again, [(64, 70)], workers=0, threads=2)
    assert resumed.features.tobytes() == runs[0][2].features.tobytes()


def test_random_weights_are_the_same_each_time() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = load_embedder(spec())
    assert torch.rand(1) == expected  # the caller's random numbers are its own
    second = load_embedder(spec())
    assert first.attrs == second.attrs
    batch = pixels(16, 32)
    assert first.encode(batch).tobytes() == second.encode(batch).tobytes()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (160, "bilinear", 0.95)),
        ({"image_size": 48}, (48, "bilinear", None)),
        ({"image_size": 48, "crop_pct": 0.9}, (48, "bilinear", 0.9)),
        ({"crop_pct": 1.0, "interpolation": "lanczos"}, (160, "lanczos", 1.0)),
    ],
)
def test_preprocessing_comes_from_the_model_unless_told(
    asked: dict[str, object], expected: tuple[object, ...]
) -> None:
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg("test_resnet").to_dict())
    made = preprocessing(EmbedSpec("test_resnet", **asked), config)
    assert (made.height, made.interpolation, made.crop) == expected


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_torchvision_models(name: str) -> None:
    embedder = load_embedder(spec(f"torchvision/{name}", image_size=32))
    width = {"squeezenet1_1": 512, "shufflenet_v2_x0_5": 1024}[name]
    assert embedder.encode(pixels(2, 32)).shape == (2, width)
    assert embedder.name == f"torchvision-{name}-32"


def test_a_transformer_is_built_for_the_size_asked() -> None:
    embedder = load_embedder(spec("test_vit", image_size=64))
    assert embedder.encode(pixels(2, 64)).shape == (2, embedder.dim)


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module.", "_orig_mod.module."])
def test_torch_files_however_they_were_wrapped(
    tmp_path: Path, trained: tuple[Path, torch.nn.Module], wrap: str
) -> None:
    state = trained[1].state_dict()
    content: dict[str, object] = {"module.": {f"module.{k}": v for k, v in state.items()},
                                  "_orig_mod.module.": {f"_orig_mod.module.{k}": v for k, v in state.items()},
                                  "state_dict": {"epoch": 3, "state_dict": state}}.get(wrap, state)  # fmt: skip
    torch.save(content, tmp_path / "w.pth")
    model = timm.create_model(TINY, num_classes=0)
    load_checkpoint(model, tmp_path / "w.pth", ["classifier"])
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("run",))


class Average(torch.nn.Module):
    """What torch.optim.swa_utils.AveragedModel writes."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("n_averaged", torch.tensor(7))


@pytest.mark.parametrize("script", ["timm", "lightning", "averaged", "moco", "dino", "flat", "nested"])
def test_checkpoints_as_training_scripts_write_them(
    tmp_path: Path, trained: tuple[Path, torch.nn.Module], script: str
) -> None:
    model = trained[1]
    state = model.state_dict()
    other = {name: torch.zeros_like(value) for name, value in state.items()}
    arguments = argparse.Namespace(
        lr=0.1, out=Path("/tmp/x"), best=np.float64(0.5), device=torch.device("cpu")
    )
    optimiser = torch.optim.AdamW(model.parameters())
    content: dict[str, object] = {
        "timm": {"epoch": 3, "arch": TINY, "state_dict": other, "state_dict_ema": state, "args": arguments,
                 "optimizer": optimiser.state_dict(), "metric": np.float64(71.5)},
        "lightning": {"state_dict": {**{f"net.{name}": value for name, value in state.items()},
                                     "criterion.weight": torch.ones(3)},
                      "hyper_parameters": Settings(lr=0.1), "callbacks": {"best": Path("x")}},
        "averaged": {"model": Average(model).state_dict(), "args": arguments},
        "moco": {"state_dict": {**{f"module.encoder_k.{name}": value for name, value in other.items()},
                                **{f"module.encoder_q.{name}": value for name, value in state.items()},
                                "module.queue": torch.ones(2, 4)}},
        "dino": {"student": {f"module.backbone.{name}": value for name, value in other.items()},
                 "teacher": {f"backbone.{name}": value for name, value in state.items()}, "args": arguments},
        "flat": {**state, "epoch": 3, "args": arguments},
        "nested": {"checkpoint": {"model": {"state_dict": state}, "seed": 0}},
    }[script]  # fmt: skip
    torch.save(content, tmp_path / "w.pth")
    empty = timm.create_model(TINY, num_classes=0)
    load_checkpoint(empty, tmp_path / "w.pth", ["classifier"])
    assert all(torch.equal(value, state[name]) for name, value in empty.state_dict().items())


class Settings(dict[str, object]):
    """Like Lightning's AttributeDict: a class that must not be imported to read the weights beside it."""


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_files_that_are_no_weights(
    tmp_path: Path,
    trained: tuple[Path, torch.nn.Module],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    torch.save({"a": Evil(), "weight": torch.ones(1, 1), "bias": torch.ones(1)}, tmp_path / "beside.pt")
    torch.save({"a": torch.ones(2), "b": "text"}, tmp_path / "mixed.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    many = [type(f"Kind{i}", (Settings,), {"__module__": __name__}) for i in range(101)]
    for each in many:
        monkeypatch.setattr(sys.modules[__name__], each.__name__, each, raising=False)
    torch.save([each() for each in many], tmp_path / "many.pt")
    torch.save({"model": torch.nn.Linear(1, 1), "epoch": 3}, tmp_path / "whole.pt")
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "script.pt")
    one = torch.nn.Linear(1, 1).state_dict()
    torch.save({f"{side}.{name}": value for side in "ab" for name, value in one.items()}, tmp_path / "two.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with tarfile.open(tmp_path / "old.pt", "w") as old:  # torch up to 2.5 runs what is in there
        old.add(tmp_path / "junk.pt", "pickle")
    (tmp_path / "junk.safetensors").write_bytes(b"\0" * 20)
    for name, message in {
        "gone.pt": "there is no file",
        "evil.pt": "no tensors but a: an object of .*print",
        "mixed.pt": "missing: weight, bias",
        "list.pt": "holds a list",
        "whole.pt": "model: an object of torch.nn.modules.linear.Linear, epoch: a int",
        "script.pt": "TorchScript",
        "many.pt": "objects of more than 100 classes",
        "two.pt": "several fit, under a., b.",
        "junk.pt": "cannot be read so",
        "old.pt": "it is a tar file",
        "junk.safetensors": "cannot be read so",
    }.items():
        with pytest.raises(ModelError, match=message) as caught:
            load_checkpoint(torch.nn.Linear(1, 1), tmp_path / name, [])
        assert "\x1b" not in str(caught.value)
        assert "x1b" not in str(caught.value)
    load_checkpoint(torch.nn.Linear(1, 1), tmp_path / "beside.pt", [])
    assert capsys.readouterr().out == ""


def test_weights_that_do_not_fit_are_named(tmp_path: Path, trained: tuple[Path, torch.nn.Module]) -> None:
    state = {name: value.clone() for name, value in trained[1].state_dict().items()}
    removed = state.pop("conv_stem.weight")
    state["extra.weight"] = removed
    state["bn1.weight"] = torch.ones(99)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        load_embedder(spec(checkpoint=tmp_path / "w.safetensors"))
    assert "missing: conv_stem.weight" in caught.value.got
    assert "left over: extra.weight" in caught.value.got
    assert "bn1.weight (99,), not" in caught.value.got
    with pytest.raises(ModelError, match=r"missing: .* more"):
        load_embedder(spec("test_resnet", checkpoint=trained[0]))


def test_published_weights_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")  # nobody listens there
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    start = time.monotonic()
    with pytest.raises(ModelError, match="in the local cache or downloadable") as caught:
        load_embedder(EmbedSpec(TINY, device="cpu", model_args={"cache_dir": str(tmp_path)}))
    assert time.monotonic() - start < 5
    assert "--checkpoint FILE" in caught.value.hint
    assert not hub.constants.HF_HUB_OFFLINE
    with socket.create_server(("127.0.0.1", port)):
        assert hub.reachable(f"http://127.0.0.1:{port}/x")


# --- models and devices -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"model": "resnet5O"}, ModelError, "did you mean resnet50"),
        ({"model": "torchvision/resnet81"}, ModelError, "did you mean torchvision/resnet"),
        ({"model": "torchvision/fasterrcnn_resnet50_fpn"}, ModelError, "must be one that is known"),
        ({"model_args": {"nonsense": 1}}, ModelError, "accept the --model-arg"),
        ({"model_args": {"num_classes": 5}}, UsageError, "got num_classes"),
        ({"model_args": {"in_chans": 1}}, ModelError, "take RGB images of 32 x 32"),
        ({"model_args": {"global_pool": ""}}, ModelError, "one row of numbers"),
        ({"device": "cuda:99"}, UsageError, "--device cuda:99 needs that GPU"),
    ],
)
def test_what_cannot_be_made_says_why(asked: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_embedder(spec(**asked))


def test_a_pass_shrinks_until_it_fits() -> None:
    sizes = []

    def forward(part: np.ndarray) -> np.ndarray:
        sizes.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError
        return part[:, :1].astype(np.float32)

    batch = np.arange(20, dtype=np.uint8).reshape(10, 2)
    rows, fits = shrinking(forward, batch, 16)
    np.testing.assert_array_equal(rows, batch[:, :1])
    assert fits == 2
    assert sizes == [10, 5, 2, 2, 2, 2, 2]

    def never(part: np.ndarray) -> np.ndarray:
        raise torch.OutOfMemoryError

    with pytest.raises(ModelError, match="one image must fit"):
        shrinking(never, batch, 4)


@pytest.mark.parametrize(
    ("rates", "fits", "expected"),
    [
        ({64: 10, 128: 20, 256: 20.5}, 4096, 128),  # no gain worth the memory
        ({64: 10, 128: 20, 256: 40, 512: 80, 1024: 160}, 4096, 1024),
        ({64: 10, 128: 20}, 200, 128),
        ({}, 1, 64),  # the passes themselves shrink further
    ],
)
def test_the_batch_size_is_the_fastest_that_fits(rates: dict[int, float], fits: int, expected: int) -> None:
    def seconds(size: int) -> float:
        if size > fits:
            raise torch.OutOfMemoryError("injected")
        return size / rates[size]

    assert fastest_batch(seconds) == expected


class Wide(torch.nn.Module):
    """Features beyond the range of float16 for bright images; memory for `room` images a pass."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.dense = torch.nn.Linear(3, 4)
        with torch.no_grad():
            self.dense.weight.copy_(torch.linspace(-1, 1, 12).view(4, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("injected")
        return self.dense(images.mean((2, 3)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_large_passes_as_on_a_gpu(precision: str) -> None:
    batch = np.concatenate([pixels(30, 8) // 16, np.full((2, 8, 8, 3), 255, np.uint8)])
    std = (2e-6,) * 3  # the last two images have features of some 1e5, float16 ends at 65,504
    rows = {}
    for room, side_by_side in ((1000, True), (9, False)):
        model = Wide(room).eval()
        backbone = Backbone(
            "wide", model, Transform(8, 8), (0.0,) * 3, std, CPU, precision if not side_by_side else "float32",
            None if side_by_side else 32, {}, torch.get_num_threads(), side_by_side,
        )  # fmt: skip
        rows[side_by_side] = backbone.encode(batch)
        assert (backbone.parallel, backbone.unit) == ((None, 16) if side_by_side else (2, 32))
    tolerance = {"float32": 1e-6, "bfloat16": 2e-2, "float16": 3e-3}[precision]
    assert np.isfinite(rows[False]).all()
    np.testing.assert_allclose(rows[False], rows[True], atol=tolerance * abs(rows[True]).max())
    if precision == "float16":  # repeated in float32
        np.testing.assert_allclose(rows[False][30:], rows[True][30:], rtol=1e-5)


def test_a_large_pass_finds_its_batch_size() -> None:
    backbone = Backbone(
        "wide", Wide(100).eval(), Transform(8, 8), (0.5,) * 3, (0.5,) * 3, CPU, "float32", None, {}, 1, False
    )
    assert backbone.batch_size == backbone.unit == 64


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_gives_nearly_the_same(trained: tuple[Path, torch.nn.Module]) -> None:
    here = load_embedder(spec(checkpoint=trained[0]))
    there = load_embedder(spec(checkpoint=trained[0], device="cuda", batch_size=64))
    batch = pixels(64, 32)
    expected, got = here.encode(batch), there.encode(batch)
    assert there.attrs["precision"] == "float16"
    np.testing.assert_allclose(got, expected, atol=0.02 * abs(expected).max())
    assert load_embedder(spec(checkpoint=trained[0], device="cuda")).batch_size >= 64
