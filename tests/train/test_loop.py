"""The training loop and its parts, on models of a few parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from labeltui.embed import Transform
from labeltui.errors import ModelError, UsageError
from labeltui.io.names import Names
from labeltui.sources.images import ArrayImages
from labeltui.train import checkpoints, dynamics
from labeltui.train.dynamics import Recorder
from labeltui.train.images import Augmenter, TrainingImages
from labeltui.train.loop import Trainer, TrainingContext, schedule
from labeltui.train.spec import AUGMENTATIONS, BackboneSpec
from labeltui.train.tuning import layers, optimiser_for, training_mode

CPU = torch.device("cpu")
N, K = 48, 3


class Small(nn.Module):
    """A linear model that has no room for more than `room` images at a time."""

    def __init__(self, room: int = 1000) -> None:
        super().__init__()
        self.room = room
        self.body = nn.Linear(3 * 8 * 8, 5)
        self.head = nn.Linear(5, K)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("a batch too large")
        out: torch.Tensor = self.head(self.body(x.flatten(1)).tanh())
        return out


def context(**changes: Any) -> TrainingContext:
    rng = np.random.default_rng(0)
    labels = rng.integers(K, size=N).astype(np.int32)
    array = rng.integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    names = Names(np.zeros(0, np.uint8), np.zeros(N + 1, np.int64))
    images = TrainingImages(ArrayImages(Path("none"), None, array), names, Transform(8, 8), np.arange(N), 2)
    images.read(lambda fraction: None, lambda: False)
    spec = BackboneSpec("small", pretrained=False, epochs=3, batch_size=16, augment=())
    made = TrainingContext(
        spec=spec,
        images=images,
        labels=labels,
        weights=None,
        rows=np.arange(N),
        watch=np.zeros(0, np.int64),
        seen=np.ones(K, bool),
        key=(0, 0),
        device=CPU,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        record=None,
        clean=None,
        report=lambda fraction, **more: None,
        keep=lambda trainer: None,
        stop=lambda trainer: None,
        check=lambda trainer: None,
        finish_epoch=lambda epoch: None,
        note=lambda text: None,
    )
    return replace(made, **changes)


def trained(room: int = 1000, **changes: Any) -> tuple[Trainer, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    trainer = Trainer(Small(room), context(**changes))
    return trainer, trainer.run().state_dict()


def test_out_of_memory_halves_the_pass_and_keeps_the_step() -> None:
    _, whole = trained()
    notes: list[str] = []
    trainer, split = trained(room=5, note=notes.append)
    assert trainer.train_state.pass_size == 4
    assert len(notes) == 2  # 16 images in passes of 8, then of 4
    assert "out of GPU memory" in notes[0]
    for name, tensor in whole.items():
        assert torch.allclose(tensor, split[name], atol=1e-5), name
    p = trainer.predict(np.arange(N))
    assert np.allclose(p.sum(axis=1), 1)
    trainer.model.room = 3  # somebody else takes memory, after training
    assert np.allclose(trainer.predict(np.arange(N)), p, atol=1e-6)
    assert trainer.train_state.pass_size == 2
    with pytest.raises(ModelError, match="memory"):
        trained(room=0)


def test_samples_watched_without_patience_change_nothing(tmp_path: Path) -> None:
    watch = np.arange(32, N)
    _, alone = trained(rows=np.arange(32))
    said: list[dict[str, float]] = []
    trainer, watched = trained(
        rows=np.arange(32), watch=watch, report=lambda fraction, **more: said.append(more)
    )
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
    epochs = [entry for entry in said if entry]
    assert [entry["epoch"] for entry in epochs] == [1, 2, 3]
    right = trainer.predict(watch).argmax(axis=1) == trainer.context.labels[watch]
    assert epochs[-1]["accuracy"] == pytest.approx(right.mean())


def test_weights_of_zero_leave_samples_out() -> None:
    labels = context().labels
    wrong = np.where(np.arange(N) < 8, (labels + 1) % K, labels).astype(np.int32)
    weights = (np.arange(N) >= 8).astype(np.float32)
    _, without = trained(labels=labels, weights=weights)
    _, same = trained(labels=wrong, weights=weights)
    _, other = trained(labels=wrong)
    assert all(torch.equal(without[name], same[name]) for name in without)
    assert not all(torch.equal(without[name], other[name]) for name in without)


def test_label_smoothing_leaves_classes_without_samples_alone() -> None:
    made = context()
    labels = np.where(made.labels == 2, 0, made.labels).astype(np.int32)
    spec = replace(made.spec, epochs=100, learning_rate=0.05, label_smoothing=0.2, weight_decay=0.0)
    record = Recorder(np.ones(N, bool), CPU)
    trainer, _ = trained(labels=labels, spec=spec, seen=np.array([True, True, False]), record=record)
    bias = trainer.model.get_parameter("head.bias")
    torch.manual_seed(0)
    assert bias[2] == Small().head.bias[2]  # it took no step
    assert (trainer.predict(np.arange(N))[:, 2] == 0).all()
    _, _, top_p, squares = record.tensors()["values"][:, :N].float()
    assert np.allclose(squares, top_p**2 + (1 - top_p) ** 2, atol=2e-3)  # two classes share all of it


def test_early_stopping_goes_back_to_the_best_epoch() -> None:
    rows, watch = np.arange(32), np.arange(32, N)
    spec = replace(context().spec, epochs=60, patience=3, learning_rate=0.02, weight_decay=0.0)
    trainer, _ = trained(rows=rows, watch=watch, spec=spec)
    losses = [entry["watch_loss"] for entry in trainer.train_state.history]
    assert len(losses) < 60  # noise cannot be learned: the loss on others rises
    assert len(losses) == int(np.argmin(losses)) + 1 + 3
    p = trainer.predict(watch)
    own = -np.log(p[np.arange(len(watch)), trainer.context.labels[watch]]).mean()
    assert own == pytest.approx(min(losses), rel=1e-5)


def test_the_record_is_what_the_step_saw(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    watched = rng.random(20) < 0.7
    logits = torch.from_numpy(rng.normal(0, 3, (12, K)).astype(np.float32))
    index = rng.permutation(20)[:12]
    labels = rng.integers(K, size=12)
    record = Recorder(watched, CPU)
    record.note(torch.from_numpy(index), logits, torch.from_numpy(labels))
    record.finish(tmp_path, 7)
    epoch = dynamics.read_epoch(tmp_path / "epochs" / "00007.npz")
    per_sample = sum(np.dtype(dtype).itemsize for dtype in dynamics.FIELDS.values())
    assert per_sample == 10
    z = logits.numpy().astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    at = {int(sample): position for position, sample in enumerate(epoch["rows"])}
    for b, sample in enumerate(index):
        if not watched[sample]:
            assert int(sample) not in at
            continue
        row, own = at[int(sample)], labels[b]
        others = np.delete(z[b], own).max()
        expected = {
            "log_p": np.log(p[b, own]),
            "margin": z[b, own] - others,
            "top": p[b].argmax(),
            "top_p": p[b].max(),
            "sum_squares": (p[b] ** 2).sum(),
        }
        for name, value in expected.items():
            assert float(epoch[name][row]) == pytest.approx(value, rel=2e-3, abs=2e-3), name
    unseen = [row for sample, row in at.items() if sample not in index]
    assert np.isnan(epoch["log_p"][unseen]).all()
    assert (epoch["top"][unseen] == -1).all()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "densenet121", "legacy_xception"])
def test_layers_go_from_the_input_to_the_classifier(name: str) -> None:
    model = timm.create_model(name, num_classes=K)
    groups = layers(model)
    names = [parameter for group in groups for parameter in group]
    assert sorted(names) == sorted(dict(model.named_parameters()))
    assert len(names) == len(set(names))
    assert len(groups) >= 3
    sizes = {len(dict(model.named_parameters())[parameter]) for parameter in groups[-1]}
    assert sizes == {K}


def test_frozen_layers_do_not_move_and_lower_ones_learn_slower() -> None:
    model = timm.create_model("test_resnet", num_classes=K)
    spec = BackboneSpec("test_resnet", freeze=2, layer_decay=0.5, weight_decay=0.1, augment=())
    groups = layers(model)
    optimiser = optimiser_for(model, spec)
    scales = [group["lr_scale"] for group in optimiser.param_groups]
    assert min(scales) == 0.5 ** (len(groups) - 3)
    assert max(scales) == 1.0
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.0, 0.1}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    training_mode(model)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    after = model.state_dict()
    parameters = dict(model.named_parameters())
    for number, names in enumerate(groups):
        moved = any(not torch.equal(before[name], after[name]) for name in names)
        assert moved == (number >= 2)
        assert all(parameters[name].requires_grad == (number >= 2) for name in names)
    assert torch.equal(before["bn1.running_mean"], after["bn1.running_mean"])
    with pytest.raises(UsageError, match="--freeze"):
        optimiser_for(model, replace(spec, freeze=len(groups)))


def test_the_learning_rate_rises_and_falls() -> None:
    values = [schedule(step / 100, 0.1) for step in range(101)]
    assert values[0] == 0.01
    assert max(values) == values[10] == 1.0
    assert values[100] == pytest.approx(0, abs=1e-9)
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert schedule(0.0, 0.0) == 1.0


@pytest.mark.parametrize("part", AUGMENTATIONS)
def test_augmentation_repeats_and_leaves_torchs_generator_alone(part: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    state = torch.get_rng_state()
    first, again, other = (Augmenter([part], [0, 1], start)(pixels.copy(), 2) for start in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert first.shape == (6, 3, 16, 16)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Batch 2 of an epoch is the same whether the epoch began there or not.
    assert torch.equal(other, Augmenter([part], [0, 1])(pixels.copy(), 3))


def test_an_optimiser_goes_on_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        optimiser.zero_grad()
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        optimiser.step()
    path = tmp_path / "checkpoints" / "last.safetensors"
    tensors = checkpoints.prefixed("optimiser", checkpoints.optimiser_tensors(optimiser))
    checkpoints.write(path, tensors | checkpoints.prefixed("model", model.state_dict()), {"epoch": 3})
    content = path.read_bytes()
    checkpoints.write(path, tensors | checkpoints.prefixed("model", model.state_dict()), {"epoch": 3})
    assert path.read_bytes() == content
    read, state = checkpoints.read(path)
    assert state == {"epoch": 3}
    other = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    other.load_state_dict(checkpoints.part("model", read))
    second = torch.optim.AdamW(other.parameters())
    checkpoints.load_optimiser(second, checkpoints.part("optimiser", read))
    batch = torch.randn(2, 3, 8, 8)
    for net, steps in ((model, optimiser), (other, second)):
        steps.zero_grad()
        net(batch).square().sum().backward()
        steps.step()
    assert torch.equal(model.weight, other.weight)
    assert second.state[other.weight]["exp_avg"].stride() == other.weight.stride()


def test_images_that_do_not_fit_are_decoded_on_the_way() -> None:
    array = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    names = Names(np.zeros(0, np.uint8), np.zeros(N + 1, np.int64))
    source = ArrayImages(Path("none"), None, array)
    kept, read = (
        TrainingImages(source, names, Transform(8, 8), np.arange(N), 2, resident_bytes=size)
        for size in (1 << 20, 0)
    )
    index = np.array([5, 2, 40])
    kept.read(lambda fraction: None, lambda: False)
    read.read(lambda fraction: None, lambda: False)
    assert np.array_equal(kept.pixels(index), read.pixels(index))
    assert np.array_equal(kept.pixels(index), array[index])
