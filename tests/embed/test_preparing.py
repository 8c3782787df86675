"""Specifications and preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from labeltui.embed import EmbedSpec, PixelEmbedder, Transform, load_embedder, parse_model_args
from labeltui.embed.spec import slug
from labeltui.errors import UsageError


def test_model_arguments_are_literals_else_strings() -> None:
    items = ["pad_type=same", "bn_eps=1e-3", "flag=False", "x=None", "t=(1, 2)", "s='3'", "e=a=b", "empty="]
    assert parse_model_args(items) == {
        "pad_type": "same", "bn_eps": 1e-3, "flag": False, "x": None, "t": (1, 2), "s": "3", "e": "a=b", "empty": ""
    }  # fmt: skip
    assert parse_model_args(["code=__import__('os').getcwd()"]) == {"code": "__import__('os').getcwd()"}


@pytest.mark.parametrize("items", [["novalue"], ["=3"], ["a b=3"], ["a=1", "a=2"]])
def test_bad_model_arguments(items: list[str]) -> None:
    with pytest.raises(UsageError, match="--model-arg"):
        parse_model_args(items)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--model", {"model": " "}),
        ("--image-size", {"image_size": 0}),
        ("--mean", {"mean": (0.5, 0.5)}),
        ("--std", {"std": (0.5, 0.0, 0.5)}),
        ("--crop-pct", {"crop_pct": 1.5}),
        ("--batch-size", {"batch_size": 0}),
        ("--workers", {"workers": -1}),
        ("--precision", {"precision": "float8"}),
        ("--interpolation", {"interpolation": "sinc"}),
        ("--device", {"device": "cuda:x"}),
    ],
)
def test_values_out_of_range_name_their_option(option: str, values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"^{option} must be"):
        EmbedSpec(**{"model": "pixels", **values})


def test_slugs() -> None:
    assert slug("mobilenetv2_035", 128) == "mobilenetv2_035-128"
    assert slug("torchvision/ResNet50", 224) == "torchvision-resnet50-224"
    assert slug("hf-hub:timm/vit.a", 96) == "hf-hub-timm-vit.a-96"


def photograph(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    rough = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    return rough.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(32, 32), (500, 375), (375, 500), (333, 77), (64, 200)])
@pytest.mark.parametrize("crop", [1.0, 0.95, 0.875])
@pytest.mark.parametrize("mode", ["center", "squash"])
def test_it_agrees_with_timm(size: tuple[int, int], crop: float, mode: str) -> None:
    from timm.data import create_transform

    theirs = create_transform(
        (3, 96, 96), interpolation="bicubic", crop_pct=crop, crop_mode=mode, normalize=False
    )
    image = photograph(*size)
    expected = np.asarray(theirs(image)).transpose(1, 2, 0).astype(int)
    got = Transform(96, 96, "bicubic", crop, mode == "squash")(image).astype(int)
    assert got.shape == expected.shape
    assert abs(got - expected).max() <= 2
    assert abs(got - expected).mean() < 0.2  # Pillow rounds between its two passes, in either order


def test_without_a_crop_the_whole_image_is_resized() -> None:
    image = photograph(40, 90)
    expected = np.asarray(image.resize((48, 48), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(Transform(48, 48)(image), expected)
    assert "whole image to 48x48" in str(Transform(48, 48))


def test_pixels_know_digits_and_no_image_has_length_zero() -> None:
    digits = load_digits()
    images = [Image.fromarray(np.uint8(image * 15.9)).convert("RGB") for image in digits.images]
    embedder = load_embedder(EmbedSpec("pixels"))
    rows = embedder.encode(np.stack([embedder.transform(image) for image in images]))
    assert rows.shape == (1797, embedder.dim)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -1)
    nearest = np.argpartition(-similarity, 5, 1)[:, :5]
    votes = (digits.target[nearest][:, :, None] == np.arange(10)).sum(1)
    assert (votes.argmax(1) == digits.target).mean() > 0.97
    plain = embedder.encode(np.stack([np.full((8, 8, 3), level, np.uint8) for level in (0, 127, 128, 255)]))
    assert np.linalg.norm(plain, axis=1).min() > 0.5


def test_pixels_take_a_grid_and_nothing_else() -> None:
    assert load_embedder(EmbedSpec("pixels", image_size=12)) == PixelEmbedder(12)
    assert load_embedder(EmbedSpec("pixels", image_size=12)).dim == 3 * 12 * 12 + 4
    with pytest.raises(UsageError, match="got --mean, --crop-pct"):
        load_embedder(EmbedSpec("pixels", mean=(0.5,), crop_pct=0.9))
