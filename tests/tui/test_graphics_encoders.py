"""One contract for all image encoders, and what each promises beside it."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from rich.console import Console

from labeltui._fast import blocks, reference
from labeltui._fast import sixel as kernel
from labeltui.graphics.ascii import AsciiEncoder
from labeltui.graphics.base import Box, Encoder, PixelImage, SmoothEncoder, TextImage, plain
from labeltui.graphics.blocks import BlocksEncoder
from labeltui.graphics.capabilities import Cell
from labeltui.graphics.kitty import KittyEncoder, KittyImage
from labeltui.graphics.placeholders import PlaceholderEncoder, PlaceholderImage
from labeltui.graphics.sixel import SixelEncoder, SixelImage
from tests.tui.terminal import Screen, decode_sixel

CELL = Cell(10, 20)
ENCODERS = {
    "sixel": SixelEncoder(CELL),
    "sixel-16": SixelEncoder(Cell(9, 17), registers=16),
    "kitty": KittyEncoder(CELL),
    "kitty-placeholders": PlaceholderEncoder(CELL),
    "blocks": BlocksEncoder(CELL),
    "blocks-256": BlocksEncoder(CELL, "256"),
    "blocks-16": BlocksEncoder(Cell(8, 15), "16"),
    "ascii": AsciiEncoder(CELL),
    "sixel-smooth": SmoothEncoder(SixelEncoder(CELL), CELL),
    "kitty-smooth": SmoothEncoder(KittyEncoder(CELL), CELL),
    "blocks-smooth": SmoothEncoder(BlocksEncoder(CELL), CELL),
}


def sample(seed: int = 0, size: int = 32) -> Image.Image:
    """A smooth image with noise: hundreds of colours, as a photograph reduced to 32 pixels has."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8))


def payload(image: object) -> bytes:
    """Everything that showing an image sends."""
    if isinstance(image, TextImage):
        console = Console(force_terminal=True, color_system="truecolor", width=200)
        drawn = "\n".join(strip.render(console) for strip in image.strips)
        drawn = re.sub(r"\x1b\^\d*\x1b\\", "", drawn)  # marks for the wire, which takes them off
        return ((image.handed_over if isinstance(image, PlaceholderImage) else "") + drawn).encode()
    assert isinstance(image, PixelImage)
    return image.draw(Box(0, 0, image.box.width, image.box.height)).encode()


@pytest.fixture(params=ENCODERS, ids=list(ENCODERS))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    chosen: Encoder = ENCODERS[request.param]
    return chosen


class TestContract:
    """What every encoder promises."""

    @pytest.mark.parametrize("size", [(32, 32), (1, 1), (300, 20), (3, 400), (640, 480), (97, 101)])
    @pytest.mark.parametrize("area", [(40, 20), (1, 1), (7, 3), (3, 12)])
    def test_lies_in_the_middle_of_its_area(
        self, encoder: Encoder, size: tuple[int, int], area: tuple[int, int]
    ) -> None:
        image = encoder.encode(sample().resize(size), *area)
        box = image.box
        assert box.width >= 1
        assert box.height >= 1
        assert box.x + box.width <= area[0]
        assert box.y + box.height <= area[1]
        assert abs((area[0] - box.width) - 2 * box.x) <= 1
        assert abs((area[1] - box.height) - 2 * box.y) <= 1

    @pytest.mark.parametrize("size", [(32, 32), (64, 32), (30, 90), (640, 480)])
    def test_keeps_the_shape_and_fills_one_side(self, encoder: Encoder, size: tuple[int, int]) -> None:
        columns, rows = 60, 24
        image = encoder.encode(sample().resize(size), columns, rows)
        width, height = image.pixels
        cell = encoder.cell  # type: ignore[attr-defined]
        # Cells and bands are whole: half a cell at each side is what rounding may cost.
        slack = 0.012 if image.kind == "sixel" else 0.5 * max(cell.width / width, cell.height / height) * 2
        assert width / height == pytest.approx(size[0] / size[1], rel=slack + 0.01)
        assert max(width / (columns * cell.width), height / (rows * cell.height)) > 0.93

    def test_same_input_same_bytes(self, encoder: Encoder) -> None:
        first, second = (encoder.encode(sample(3), 30, 12) for _ in range(2))
        assert payload(first) == payload(second)
        assert payload(first) != payload(encoder.encode(sample(4), 30, 12))

    @pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "F", "YCbCr"])
    def test_takes_every_mode(self, encoder: Encoder, mode: str) -> None:
        image = Image.new("I;16", (20, 20)) if mode == "I;16" else sample(size=20).convert(mode)
        image = encoder.encode(image, 10, 5)
        assert image.wire > 0

    def test_says_what_it_sends(self, encoder: Encoder) -> None:
        image = encoder.encode(sample(), 20, 10)
        sent = payload(image)
        overhead = image.box.height if isinstance(image, TextImage) else 20  # line ends; longer numbers
        assert len(sent) == pytest.approx(image.wire, abs=overhead)
        assert image.nbytes > 0

    @pytest.mark.parametrize("budget", [20_000, 4_000, 700])
    def test_budget_makes_it_smaller(self, encoder: Encoder, budget: int) -> None:
        free = encoder.encode(sample(), 40, 20)
        tight = encoder.encode(sample(), 40, 20, budget=budget)
        assert tight.wire <= budget or (tight.box.width, tight.box.height) == (1, 1)
        if free.wire > budget:
            assert tight.box.width < free.box.width
        else:
            assert payload(tight) == payload(free)

    def test_crop_shows_that_part(self, encoder: Encoder) -> None:
        image = Image.new("RGB", (64, 64), (10, 10, 10))
        image.paste((250, 250, 250), (32, 0, 64, 32))
        whole = encoder.encode(image.crop((32, 0, 64, 64)), 20, 20)
        part = encoder.encode(image, 20, 20, crop=(0.5, 0.0, 1.0, 1.0))
        assert payload(part) == payload(whole)

    def test_sends_no_control_characters_but_its_own_sequences(self, encoder: Encoder) -> None:
        sent = payload(encoder.encode(sample(), 12, 6)).decode()
        rest = re.sub(r"\x1bP[^\x1b]*\x1b\\|\x1b_G[^\x1b]*\x1b\\|\x1b\[[\d;]*m", "", sent)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", rest)


def native(image: SixelImage) -> np.ndarray:
    """The image as it must look: few colours at its own size, repeated, rounded to sixel's percent."""
    columns = np.repeat(np.arange(len(image.edges) - 1), np.diff(image.edges))
    colours = image.palette[image.index[image.lines][:, columns]].astype(int)
    return np.round((colours * 100 + 127) // 255 * 255 / 100).astype(np.uint8)


class TestSixel:
    @pytest.mark.parametrize(
        ("size", "cell", "area"),
        [
            ((32, 32), Cell(10, 20), (40, 20)),
            ((32, 32), Cell(9, 19), (33, 11)),
            ((224, 224), Cell(8, 17), (50, 20)),
            ((500, 333), Cell(7, 13), (40, 20)),
            ((1, 1), Cell(10, 20), (8, 4)),
            ((5, 200), Cell(10, 20), (8, 4)),
        ],
    )
    def test_decodes_to_the_quantised_image(
        self, size: tuple[int, int], cell: Cell, area: tuple[int, int]
    ) -> None:
        image = SixelEncoder(cell).encode(sample(1, 64).resize(size), *area)
        pixels, drawn = decode_sixel(image.whole)
        assert (drawn.shape[1], drawn.shape[0]) == image.pixels
        assert drawn.all()
        np.testing.assert_array_equal(pixels, native(image))

    def test_few_colours_are_kept_exactly(self) -> None:
        image = Image.fromarray(
            np.random.default_rng(0).integers(0, 6, (40, 40, 1), np.uint8).repeat(3, 2) * 51
        )
        image = SixelEncoder(CELL).encode(image, 40, 20)
        pixels, _ = decode_sixel(image.whole)
        assert pixels[::9, ::9].shape[2] == 3
        shown = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
        assert shown == {(v, v, v) for v in range(0, 256, 51)}

    @settings(max_examples=25, deadline=None)
    @given(st.data())
    def test_parts_are_parts_of_the_whole(self, data: st.DataObject) -> None:
        image = SixelEncoder(Cell(7, 13)).encode(sample(2).resize((37, 23)), 20, 9)
        whole, _ = decode_sixel(image.whole)
        x = data.draw(st.integers(0, image.box.width - 1))
        y = data.draw(st.integers(0, image.box.height - 1))
        part = Box(
            x,
            y,
            data.draw(st.integers(1, image.box.width - x)),
            data.draw(st.integers(1, image.box.height - y)),
        )
        sent = image.draw(part)
        wanted = whole[y * 13 : (y + part.height) * 13, x * 7 : (x + part.width) * 7]
        if not wanted.size:
            assert sent == ""
            return
        pixels, drawn = decode_sixel(sent)
        assert drawn.all()
        np.testing.assert_array_equal(pixels, wanted)

    def test_obeys_registers_and_geometry(self) -> None:
        image = SixelEncoder(CELL, registers=16, geometry=(150, 100)).encode(sample(), 40, 20)
        assert len(image.palette) <= 16
        assert max(map(int, re.findall(r"#(\d+)", image.whole))) < 16
        assert image.pixels[0] <= 150
        assert image.pixels[1] <= 100

    def test_whole_bands_where_a_band_fits(self) -> None:
        for rows in range(1, 12):
            for height in (6, 7, 11, 13, 20, 23):
                for columns in (5, 11, 31):
                    image = SixelEncoder(Cell(7, height)).encode(sample(), columns, rows)
                    assert image.pixels[1] % 6 == 0
                    assert image.pixels[1] <= rows * height

    def test_a_sample_is_short(self) -> None:
        sizes = [SixelEncoder(Cell(10, 20)).encode(sample(seed), 40, 20).wire for seed in range(10)]
        assert max(sizes) <= 22_000

    @pytest.mark.parametrize("seed", range(12))
    def test_kernels_equal_their_twins(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        count, limit = int(rng.integers(1, 1500)), int(rng.integers(1, 257))
        pixels = rng.integers(0, 256, (count, 3), np.uint8)
        if seed % 2:
            pixels = np.repeat(pixels[: max(1, count // 20)], 9, axis=0)
        for ours, twin in zip(kernel.quantise(pixels, limit), reference.quantise(pixels, limit), strict=True):
            np.testing.assert_array_equal(ours, twin)
        few, few_twin = kernel.few_colours(pixels, limit), reference.few_colours(pixels, limit)
        assert (few is None) == (few_twin is None)
        if few is not None and few_twin is not None:
            np.testing.assert_array_equal(few[0][few[1]], pixels)
            np.testing.assert_array_equal(few[0], few_twin[0])
            np.testing.assert_array_equal(few[1], few_twin[1])
        palette, flat = kernel.quantise(pixels, limit)
        width = next(w for w in range(int(count**0.5) or 1, 0, -1) if len(pixels) % w == 0)
        ours_calm, twin_calm = flat.reshape(-1, width).copy(), flat.reshape(-1, width).copy()
        kernel.calm(ours_calm, pixels, palette, 400)
        reference.calm(twin_calm, pixels, palette, 400)
        np.testing.assert_array_equal(ours_calm, twin_calm)
        height, width = rng.integers(1, 20, 2).tolist()
        shown = rng.integers(1, 90, 2).tolist()
        index = rng.integers(0, rng.integers(1, 256), (height, width)).astype(np.uint8)
        edges = (np.arange(width + 1) * shown[0] // width).astype(np.int32)
        lines = (np.arange(shown[1]) * height // shown[1]).astype(np.int32)
        assert kernel.pack(index, edges, lines) == reference.pack(index, edges, lines)

    def test_quantised_better_than_pillow(self) -> None:
        image = sample(5, 64)
        pixels = np.asarray(image).reshape(-1, 3)
        palette, index = kernel.quantise(np.ascontiguousarray(pixels), 64)

        def error(other: np.ndarray) -> float:
            return float(((other.astype(int) - pixels) ** 2).mean())

        pillow = np.asarray(image.quantize(64, method=Image.Quantize.MEDIANCUT).convert("RGB")).reshape(-1, 3)
        assert error(palette[index]) < error(pillow)


class TestKitty:
    def test_sends_the_sample_itself(self) -> None:
        image = KittyEncoder(CELL).encode(sample(), 40, 20)
        shown = Image.open(io.BytesIO(base64.b64decode(image.data)))
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(sample()))
        assert (image.box.width, image.box.height) == (40, 20)
        assert image.wire <= 8_000

    def test_large_images_are_reduced_and_chunked(self) -> None:
        image = KittyEncoder(CELL).encode(sample(1, 1200), 40, 20)
        assert image.size == (400, 400)
        screen = Screen(80, 24)
        screen.feed(image.transmit(7) + image.place(7, 1, Box(0, 0, 40, 20)))
        np.testing.assert_array_equal(
            np.asarray(screen.images[7]),
            np.asarray(sample(1, 1200).resize((400, 400), Image.Resampling.BOX, reducing_gap=3.0)),
        )
        assert all(len(chunk) <= 4200 for chunk in image.transmit(7).split("\x1b\\"))
        assert [(p.columns, p.rows) for p in screen.placements.values()] == [(40, 20)]

    def test_part_names_the_same_part_of_the_image(self) -> None:
        image = KittyEncoder(CELL).encode(sample(0, 40), 40, 20)
        assert isinstance(image, KittyImage)
        assert ",x=10,y=4,w=20,h=10" in image.place(1, 2, Box(10, 2, 20, 5))


class TestText:
    @pytest.mark.parametrize("colours", [2, 3, 5, 256])
    def test_blocks_show_each_pixel_where_it_belongs(self, colours: int) -> None:
        image = (
            sample(0, 16).quantize(colours).convert("RGB")
        )  # neighbours of the same colour are sent shorter
        shown = BlocksEncoder(CELL).encode(image, 16, 8)
        console = Console(force_terminal=True, color_system="truecolor")
        dots = np.zeros((16, 16, 3), np.uint8)
        for row, strip in enumerate(shown.strips):
            # Read the compact form back: it must equal the image, dot for dot.
            front = back = (0, 0, 0)
            column = 0
            for match in re.finditer(r"\x1b\[([\d;]*)m|([ ▀▄█])", strip.render(console)):
                if match[2]:
                    upper, lower = {
                        " ": (back, back),
                        "█": (front, front),
                        "▀": (front, back),
                        "▄": (back, front),
                    }[match[2]]
                    dots[2 * row, column], dots[2 * row + 1, column] = upper, lower
                    column += 1
                    continue
                for kind, colour in re.findall(r"([34])8;2;(\d+;\d+;\d+)", match[1]):
                    value = tuple(map(int, colour.split(";")))
                    if kind == "3":
                        front = value  # type: ignore[assignment]
                    else:
                        back = value  # type: ignore[assignment]
            assert column == 16
        np.testing.assert_array_equal(dots, np.asarray(image))

    def test_cut_strips_look_the_same(self) -> None:
        strip = BlocksEncoder(CELL).encode(sample(0, 16), 16, 8).strips[3]
        console = Console(force_terminal=True, color_system="truecolor")
        whole, cut = Screen(16, 1), Screen(16, 1)
        whole.feed(strip.render(console))
        cut.feed("".join(part.render(console) for part in strip.divide([5, 9, 16])))
        colours = re.findall(r"8;2;\d+;\d+;\d+", "".join(p.render(console) for p in strip.divide([5, 9, 16])))
        assert len(whole.row(0).strip()) > 0
        assert len(colours) == 32
        assert cut.row(0) == "▀" * 16

    def test_a_sample_is_short(self) -> None:
        assert max(BlocksEncoder(CELL).encode(sample(seed), 40, 20).wire for seed in range(5)) <= 32_000

    @pytest.mark.parametrize(
        ("colours", "allowed"), [("256", r"[34]8;5;\d+"), ("16", r"3[0-7]|9[0-7]|4[0-7]|10[0-7]")]
    )
    def test_only_the_colours_that_exist(self, colours: str, allowed: str) -> None:
        sent = payload(BlocksEncoder(CELL, colours).encode(sample(), 20, 10)).decode()
        for parameters in re.findall(r"\x1b\[([\d;]*)m", sent):
            assert parameters == "0" or re.fullmatch(rf"(?:{allowed})(?:;(?:{allowed}))?", parameters)

    def test_ascii_is_brighter_where_the_image_is(self) -> None:
        image = Image.fromarray(np.linspace(0, 255, 64, dtype=np.uint8)[None, :].repeat(32, 0))
        dark = AsciiEncoder(CELL).encode(image, 20, 5).strips[2].text
        light = AsciiEncoder(CELL, light=True).encode(image, 20, 5).strips[2].text
        assert dark.isascii()
        assert dark[0] == " "
        assert dark[-1] == "@"
        assert light == dark[::-1]


def test_transparent_pixels_lie_on_grey() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    assert [plain(image).getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (128, 128, 128)]


def test_sixteen_bits_use_their_own_range() -> None:
    values = np.array([[1000, 1500, 2000]], np.uint16)
    assert np.asarray(plain(Image.fromarray(values)))[0, :, 0].tolist() == [0, 127, 255]


@settings(max_examples=60)
@given(st.data(), st.integers(1, 4), st.integers(1, 12), st.integers(2, 5))
def test_half_blocks_equal_their_twin(data: st.DataObject, rows: int, width: int, colours: int) -> None:
    for kind, most in ((blocks.TRUECOLOR, 0xFFFFFF), (blocks.INDEXED, 255), (blocks.SIXTEEN, 15)):
        palette = data.draw(st.lists(st.integers(0, most), min_size=colours, max_size=colours))
        codes = data.draw(arrays(np.int32, (2 * rows, width), elements=st.sampled_from(palette)))
        assert blocks.pack(codes, kind) == reference.half_blocks(codes, kind)


class TestSmooth:
    def test_grows_without_squares_and_shrinks_as_ever(self) -> None:
        edge = Image.new("RGB", (2, 2), (255, 255, 255))
        edge.paste((0, 0, 0), (0, 0, 1, 2))
        squares = SixelEncoder(CELL).encode(edge, 12, 6)
        smooth = SmoothEncoder(SixelEncoder(CELL), CELL).encode(edge, 12, 6)
        assert isinstance(squares, SixelImage)
        assert isinstance(smooth, SixelImage)
        assert len(squares.palette) == 2
        assert len(smooth.palette) > 20
        assert smooth.box == squares.box
        large = sample(1, 1200)
        assert payload(SmoothEncoder(SixelEncoder(CELL), CELL).encode(large, 12, 6)) == payload(
            SixelEncoder(CELL).encode(large, 12, 6)
        )
