"""Images in an app: what the terminal shows is compared with what it should show, pixel for pixel."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from textual import events
from textual.app import App, ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.driver import Driver
from textual.geometry import Size
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static

from labeltui.errors import UnreadableImage
from labeltui.graphics import Capabilities, Cell, ImageView, Thumb, Thumbnails, attach, canvas_of, layer
from labeltui.graphics.base import PixelImage
from labeltui.graphics.sixel import SixelImage
from tests.tui.terminal import Screen, decode_sixel

CELL = Cell(10, 20)
KINDS = ("sixel", "kitty")


def image(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


class ScreenDriver(Driver):
    """Hands everything that the app writes to a screen of ours."""

    def start_application_mode(self) -> None:
        app: Any = self._app
        columns, rows = self._size or (80, 24)
        app.terminal = Screen(columns, rows, (CELL.width, CELL.height))
        size = Size(columns, rows)
        app.call_later(lambda: None)
        asyncio.get_running_loop().create_task(app._post_message(events.Resize(size, size)))

    def write(self, data: str) -> None:
        app: Any = self._app
        app.terminal.feed(data)

    def disable_input(self) -> None: ...

    def stop_application_mode(self) -> None: ...


class Opaque(ModalScreen[None]):
    CSS = "Opaque { align: center middle; background: $background; } #box { width: 30; height: 8; }"

    def compose(self) -> ComposeResult:
        yield Static("modal", id="box")


class Translucent(Opaque):
    CSS = "Translucent { align: center middle; background: $background 60%; }"


class Shown(App[None]):
    """A list, a large image and small ones in a scrolling column."""

    CSS = """
    Screen { layers: base top; }
    #list { width: 20; }
    #large { height: 12; border: round $primary; }
    Thumbnails { height: 5; }
    .cover { layer: top; offset: 33 4; width: 9; height: 5; background: $error; }
    """
    terminal: Screen
    BINDINGS: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        super().__init__(driver_class=ScreenDriver)
        self.loads = 0

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield OptionList(*[f"row {i}" for i in range(60)], id="list")
            with VerticalScroll(id="column"):
                yield Static("above\n" * 2)
                yield ImageView(id="large")
                yield Thumbnails(6, 3, id="small")
                yield Static("below\n" * 30)

    def on_mount(self) -> None:
        self.large.show(("image", 0), self.loader(0))
        self.query_one("#small", Thumbnails).show(
            [Thumb(("small", i), image(i), f"no {i}") for i in range(6)]
        )

    @property
    def large(self) -> ImageView:
        return self.query_one("#large", ImageView)

    def loader(self, seed: int, size: tuple[int, int] = (32, 32)) -> Callable[[], Image.Image]:
        def load() -> Image.Image:
            self.loads += 1
            return image(seed, size)

        return load


@asynccontextmanager
async def running(
    kind: str, app: App[None] | None = None, size: tuple[int, int] = (80, 24), **caps: Any
) -> AsyncIterator[tuple[Any, Pilot[None]]]:
    app = Shown() if app is None else app
    attach(app, Capabilities(kind=kind, cell=CELL, cell_known=True, answered=True, **caps))
    async with app.run_test(headless=False, size=size) as pilot:
        await settled(pilot)
        yield app, pilot


async def settled(pilot: Pilot[None]) -> None:
    """Wait until every image has been made and nothing is written any more."""
    quiet = 0
    app: Any = pilot.app
    for _ in range(1000):
        before = app.terminal.received
        await asyncio.sleep(0.006)
        screen: Any = app.screen
        images = [p for s in app.screen_stack for p in s.query(ImageView) if p.content_size and p._load]
        waiting = canvas_of(app)._requested or any(p.encoded is None and not p._trouble for p in images)
        waiting = waiting or screen._layout_required or screen._repaint_required or screen._dirty_widgets
        waiting = waiting or screen._callbacks or app._message_queue.qsize() or screen._message_queue.qsize()
        quiet = 0 if waiting or app.terminal.received != before else quiet + 1
        if quiet == 4:
            return
    raise AssertionError("the app does not come to rest")


def expected(app: App[Any], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Which cells show pixels and, for sixel, which colours: found by asking the app for the widget of each cell."""
    screen: Screen = app.terminal  # type: ignore[attr-defined]
    cells = np.zeros((screen.rows, screen.columns), np.bool_)
    pixels = np.zeros_like(screen.pixels)
    for image in app.screen.query(ImageView):
        encoded = image.encoded
        if not isinstance(encoded, PixelImage) or image not in app.screen._compositor.visible_widgets:
            continue
        left, top = image.content_region.x + encoded.box.x, image.content_region.y + encoded.box.y
        whole = decode_sixel(encoded.whole)[0] if isinstance(encoded, SixelImage) else None
        for row in range(max(0, top), min(screen.rows, top + encoded.box.height)):
            for column in range(max(0, left), min(screen.columns, left + encoded.box.width)):
                if app.screen.get_widget_at(column, row)[0] is not image:
                    continue
                if kind == "sixel" and row == screen.rows - 1:
                    continue  # the last row is left alone: terminals scroll
                part = None
                if whole is not None:
                    y, x = (row - top) * CELL.height, (column - left) * CELL.width
                    part = whole[y : y + CELL.height, x : x + CELL.width]
                    place = pixels[row * CELL.height :, column * CELL.width :]
                    place[: part.shape[0], : part.shape[1]] = part
                cells[row, column] = part is None or part.size > 0
    return cells, pixels


def check(app: App[Any], kind: str) -> None:
    screen: Screen = app.terminal  # type: ignore[attr-defined]
    cells, pixels = expected(app, kind)
    np.testing.assert_array_equal(screen.has_pixels(), cells)
    if kind == "sixel":
        assert not screen.scrolled
        np.testing.assert_array_equal(np.where(screen.drawn[..., None], screen.pixels, 0), pixels)
    else:
        assert all(count == 1 for count in screen.transmissions.values())


@pytest.mark.parametrize("kind", KINDS)
async def test_every_image_is_sent_once(kind: str) -> None:
    async with running(kind) as (app, pilot):
        check(app, kind)
        assert app.terminal.has_pixels().sum() > 200
        assert app.terminal.images_received == 7
        for _ in range(3):  # text beside it changes
            await pilot.press("down")
            await settled(pilot)
        assert app.query_one(OptionList).highlighted == 3
        assert app.terminal.images_received == 7
        check(app, kind)
        app.refresh()  # all text is repainted
        await settled(pilot)
        assert app.terminal.images_received == 7
        check(app, kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_next_image_goes_over_the_old_one(kind: str) -> None:
    async with running(kind) as (app, pilot):
        before = app.terminal.received
        app.large.show(("image", 1), app.loader(1))
        await settled(pilot)
        check(app, kind)
        sent = app.terminal.received - before
        assert sent - app.large.encoded.wire < 300  # no cell was repainted
        app.large.show(("wide", 2), app.loader(2, (60, 20)))
        await settled(pilot)
        check(app, kind)
        app.large.zoom((0.25, 0.25, 0.75, 0.75))
        await settled(pilot)
        check(app, kind)
        if kind == "sixel":
            assert app.large.encoded.index.shape == (10, 30)
        app.large.clear("nothing")
        await settled(pilot)
        check(app, kind)
        assert any("nothing" in app.terminal.row(y) for y in range(24))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modal", [Opaque, Translucent])
async def test_modal_hides_and_gives_back(kind: str, modal: type[Opaque]) -> None:
    async with running(kind) as (app, pilot):
        await app.push_screen(modal())
        await settled(pilot)
        assert not app.terminal.has_pixels().any()
        await app.pop_screen()
        await settled(pilot)
        assert app.terminal.has_pixels().any()
        check(app, kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_scrolled_covered_hidden_resized(kind: str) -> None:
    async with running(kind) as (app, pilot):
        column = app.query_one("#column")
        for offset in (3, 9, 16, 30, 2):
            column.scroll_to(y=offset, animate=False)
            await settled(pilot)
            check(app, kind)
        await app.screen.mount(Static("cover", classes="cover"))
        await settled(pilot)
        assert any("cover" in app.terminal.row(y) for y in range(24))
        check(app, kind)
        app.large.show(("image", 5), app.loader(5))
        await settled(pilot)
        check(app, kind)
        await app.query(".cover").remove()
        await settled(pilot)
        check(app, kind)
        app.large.display = False
        await settled(pilot)
        check(app, kind)
        app.large.display = True
        await settled(pilot)
        check(app, kind)


async def resize(app: Any, pilot: Pilot[None], columns: int, rows: int) -> None:
    app.terminal.resize(columns, rows)
    app._driver._size = columns, rows
    size = Size(columns, rows)
    app.post_message(events.Resize(size, size))
    await settled(pilot)


@pytest.mark.parametrize("kind", KINDS)
async def test_resizing_sends_each_image_once(kind: str) -> None:
    async with running(kind) as (app, pilot):
        for columns, rows in ((80, 31), (66, 31), (66, 20)):  # higher; narrower, so that images move; lower
            before = app.terminal.images_received
            await resize(app, pilot, columns, rows)
            check(app, kind)
            sent = app.terminal.images_received - before
            seen = sum(bool(target.visible.any()) for target in canvas_of(app)._kept.values())
            assert sent == seen if kind == "sixel" else sent <= 1


@pytest.mark.parametrize(("kind", "seed"), [("sixel", 0), ("kitty", 24), ("sixel", 24)])
async def test_any_order_of_events_leaves_the_right_pixels(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    async with running(kind) as (app, pilot):
        for _ in range(12):
            match rng.randrange(8):
                case 0:
                    app.query_one("#column").scroll_to(y=rng.randrange(25), animate=False)
                case 1:
                    shape = rng.choice([(32, 32), (50, 20), (9, 40)])
                    number = rng.randrange(6)
                    app.large.show(("any", number, shape), app.loader(number, shape))
                case 2:
                    if len(app.screen_stack) == 1:
                        await app.push_screen(rng.choice([Opaque, Translucent])())
                    else:
                        await app.pop_screen()
                case 3:
                    await resize(app, pilot, rng.randrange(50, 110), rng.randrange(12, 40))
                case 4:
                    if app.query(".cover"):
                        await app.query(".cover").remove()
                    else:
                        await app.screen.mount(Static("cover", classes="cover"))
                case 5:
                    app.screen_stack[0].query_one("#large").display ^= True
                case 6:
                    app.theme = rng.choice(["textual-light", "textual-dark"])
                case 7:
                    await pilot.press("down")
            await settled(pilot)
            check(app, kind)


async def test_exit_frees_kitty_images() -> None:
    async with running("kitty") as (app, _):
        assert app.terminal.images
        app._driver.stop_application_mode()
        assert not app.terminal.images
        assert not app.terminal.placements


async def test_a_kitty_terminal_is_not_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "PIXELS", 12 * 32 * 32)
    async with running("kitty") as (app, pilot):
        for number in range(1, 20):
            app.large.show(("image", number), app.loader(number))
            await settled(pilot)
            assert len(app.terminal.images) <= 13
            cells, _ = expected(app, "kitty")
            np.testing.assert_array_equal(app.terminal.has_pixels(), cells)
        app.large.show(("image", 1), app.loader(1))  # was freed: it has to be sent again
        await settled(pilot)
        assert np.array_equal(np.asarray(app.terminal.images[shown_image(app)]), np.asarray(image(1)))


def shown_image(app: Any) -> int:
    """The number of the image in the large image's place."""
    box, region = app.large.encoded.box, app.large.content_region
    (found,) = [
        placement.image
        for placement in app.terminal.placements.values()
        if (placement.x, placement.y) == (region.x + box.x, region.y + box.y)
    ]
    return int(found)


async def test_tmux_gets_the_whole_image_again_when_a_part_was_wiped() -> None:
    async with running("sixel", tmux=True) as (app, pilot):
        await app.screen.mount(Static("cover", classes="cover"))
        await settled(pilot)
        before, sent = app.terminal.images_received, app.terminal.image_bytes
        await app.query(".cover").remove()
        await settled(pilot)
        check(app, "sixel")
        # One rectangle, not the covered part alone: tmux dropped all of the image.
        assert app.terminal.images_received == before + 1
        assert app.terminal.image_bytes - sent == len(app.large.encoded.whole)


@pytest.mark.parametrize("kind", ["blocks", "ascii"])
async def test_text_images_are_text(kind: str) -> None:
    async with running(kind) as (app, pilot):
        assert not app.terminal.images_received
        box, region = app.large.encoded.box, app.large.content_region
        rows = [app.terminal.row(region.y + box.y + y) for y in range(box.height)]
        inked = [row[region.x + box.x : region.x + box.x + box.width] for row in rows]
        assert all(len(set(row)) > 1 or row[0] not in " " for row in inked)
        await app.push_screen(Opaque())
        await settled(pilot)
        assert not any(character in app.terminal.row(5) for character in "▀▄@#")
        await app.pop_screen()
        await settled(pilot)
        assert [app.terminal.row(region.y + box.y + y) for y in range(box.height)] == rows


async def test_kept_and_prefetched_images_are_ready_at_once() -> None:
    async with running("sixel") as (app, pilot):
        studio = canvas_of(app).studio
        app.large.prefetch([("image", i) for i in (7, 8, 9)], lambda key: image(key[1]))  # type: ignore[index]
        for _ in range(200):
            if studio.encoded >= 10:
                break
            await asyncio.sleep(0.01)
        assert app.loads == 1  # only the first image ever went through the app's loader
        for number in (8, 0):
            app.large.show(("image", number), app.loader(number))
            assert app.large.encoded is studio.ready(app.large._order)
            await settled(pilot)
            check(app, "sixel")
        assert (app.loads, studio.encoded) == (1, 10)


async def test_a_slow_image_takes_the_wrong_one_away() -> None:
    async with running("sixel") as (app, pilot):
        release = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow() -> Image.Image:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
            return image(3)

        app.large.show("slow", slow, "loading")
        await asyncio.sleep(0.3)
        await pilot.pause()
        assert app.large.encoded is None
        assert any("loading" in app.terminal.row(y) for y in range(24))
        check(app, "sixel")
        release.set()
        await asyncio.sleep(0.1)
        await settled(pilot)
        assert app.large.encoded is not None
        check(app, "sixel")


async def test_what_cannot_be_read_is_said_as_plain_text() -> None:
    async with running("blocks") as (app, pilot):

        def broken() -> Image.Image:
            raise UnreadableImage(
                "an image must be decodable", "[red]x[/red] is cut short", "restore the file"
            )

        app.large.show("broken", broken)
        await settled(pilot)
        shown = " ".join(app.terminal.row(y) for y in range(24))
        assert "[red]x[/red] is cut short" in " ".join(shown.split())
        app.large.show("worse", lambda: 1 / 0)
        await settled(pilot)
        assert "ZeroDivisionError" in " ".join(app.terminal.row(y) for y in range(24))


async def test_slow_line_gets_smaller_images() -> None:
    app = Shown()
    attach(app, Capabilities(kind="sixel", cell=CELL), max_kbps=32)
    async with app.run_test(headless=False, size=(80, 24)) as pilot:
        await settled(pilot)
        assert app.large.encoded is not None
        assert 0 < app.large.encoded.wire <= 2_000
        check(app, "sixel")


async def test_other_capabilities_redraw_everything() -> None:
    async with running("blocks") as (app, pilot):
        canvas_of(app).change(Capabilities(kind="sixel", cell=CELL))
        await settled(pilot)
        check(app, "sixel")
        assert app.terminal.has_pixels().sum() > 200
        canvas_of(app).change(Capabilities(kind="kitty", cell=CELL))
        await settled(pilot)
        assert not app.terminal.drawn.any()
        check(app, "kitty")
        canvas_of(app).change(Capabilities(kind="ascii", cell=CELL))
        await settled(pilot)
        assert not app.terminal.has_pixels().any()


async def test_ink_follows_the_theme() -> None:
    async with running("ascii") as (app, pilot):

        def ink() -> int:
            return sum(strip.text.count("@") - strip.text.count(" ") for strip in app.large.encoded.strips)

        app.large.show("dark", Image.new("L", (8, 8), 0))
        await settled(pilot)
        dark = ink()
        app.theme = "textual-light"
        await settled(pilot)
        assert ink() > 0 > dark


class Full(App[None]):
    """An image that reaches the screen's last row."""

    terminal: Screen

    def __init__(self) -> None:
        super().__init__(driver_class=ScreenDriver)

    def compose(self) -> ComposeResult:
        yield ImageView()

    def on_mount(self) -> None:
        self.query_one(ImageView).show(1, image(1))


@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_row_is_left_alone_but_the_image_is_whole(kind: str) -> None:
    async with running(kind, Full()) as (app, _):
        image = app.query_one(ImageView)
        assert image.encoded.box.height == 23
        check(app, kind)


async def test_thumbnails_show_what_fits_and_reuse_widgets() -> None:
    async with running("sixel") as (app, pilot):
        small = app.query_one("#small", Thumbnails)
        widgets = list(small.query(ImageView))
        before = app.terminal.images_received
        small.show([Thumb(("small", i), image(i), f"[b]{i}[/b]", "-marked") for i in (0, 1, 2, 9)])
        await settled(pilot)
        assert list(small.query(ImageView)) == widgets
        assert app.terminal.images_received == before + 1  # only the new one
        assert sum(entry.display for entry in small.children) == 4
        assert "[b]9" in " ".join(app.terminal.row(y) for y in range(24))
        check(app, "sixel")
        small.show([Thumb(("many", i), image(i)) for i in range(50)])
        await settled(pilot)
        assert sum(entry.display for entry in small.children) == small.capacity
        check(app, "sixel")
