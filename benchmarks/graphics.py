"""Images in the terminal: encoding time and bytes on the wire, against the usual Textual image widget.

Images: patches of the two photographs that come with scikit-learn, reduced to 32 x 32 pixels as a small
sample is, and one cut to 224 x 224. Cells are 10 x 20 pixels and the widget has 40 x 20 of them: 400 x 400
pixels. "Widget" figures come from a running app whose driver counts what it is given; encoding is also timed
alone, in turn with the peer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from textual import events
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.driver import Driver
from textual.geometry import Size
from textual.widgets import Static

from _common import Report, interleaved, median, parser, peer, version
from labeltui.graphics import Capabilities, Cell, ImageView, attach
from labeltui.graphics.ascii import AsciiEncoder
from labeltui.graphics.blocks import BlocksEncoder
from labeltui.graphics.kitty import KittyEncoder
from labeltui.graphics.sixel import SixelEncoder

COLUMNS, ROWS = 40, 20
CELL = Cell(10, 20)
PEER = "textual-image"


def photographs() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(photo) for photo in load_sample_images().images]


def samples(number: int) -> list[Image.Image]:
    """Return patches of photographs at 32 x 32 pixels."""
    rng = np.random.default_rng(0)
    photos = photographs()
    found = []
    for i in range(number):
        photo = photos[i % len(photos)]
        side = int(rng.integers(120, 380))
        x, y = int(rng.integers(photo.width - side)), int(rng.integers(photo.height - side))
        found.append(photo.crop((x, y, x + side, y + side)).resize((32, 32), Image.Resampling.LANCZOS))
    return found


def photo(number: int = 0) -> Image.Image:
    """Return the middle of a photograph at 224 x 224 pixels."""
    whole = photographs()[number]
    left = (whole.width - whole.height) // 2
    return whole.crop((left, 0, left + whole.height, whole.height)).resize(
        (224, 224), Image.Resampling.LANCZOS
    )


def their_encoding(image: Image.Image) -> Callable[[], str]:
    """What the peer's sixel widget does for one image, in its own words: scale, cut, encode."""
    pixeldata = peer("textual_image._pixeldata", PEER)
    sixel = peer("textual_image._sixel", PEER)
    side = COLUMNS * CELL.width

    def call() -> str:
        data = pixeldata.PixelData(image).scaled(side, side).cropped(0, 0, side, side)
        encoded: str = sixel.image_to_sixels(data.pil_image, None, (18, 18, 18, 1.0))
        return encoded

    return call


class Counter(Driver):
    """Counts bytes and images."""

    received = 0
    images = 0
    text = False  # whether images are text and every write counts
    last = 0.0

    def start_application_mode(self) -> None:
        size = Size(100, 30)
        asyncio.get_running_loop().create_task(self._app._post_message(events.Resize(size, size)))

    def write(self, data: str) -> None:
        self.received += len(data.encode())
        images = data.count("\x1bP") + data.count("a=p,")
        self.images += images
        if images or self.text:
            self.last = time.perf_counter()

    def disable_input(self) -> None: ...

    def stop_application_mode(self) -> None: ...


class Showing(App[None]):
    """An image of 40 x 20 cells beside text."""

    CSS = "#image { width: 40; height: 20; } Static { width: 1fr; }"

    def __init__(self, make: Callable[[], Any], show: Callable[[Any, int], None]) -> None:
        super().__init__(driver_class=Counter)
        self.make, self.show = make, show

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static("text " * 200)
            yield self.make()

    def on_mount(self) -> None:
        self.show(self.query_one("#image"), 0)


async def in_app(
    make: Callable[[], Any], show: Callable[[Any, int], None], kind: str, swaps: int, text: bool = False
) -> dict[str, Any]:
    """Return what the start and later images send, and how long an image takes from the call to the driver."""
    app = Showing(make, show)
    attach(app, Capabilities(kind=kind, cell=CELL, cell_known=True, answered=True))
    async with app.run_test(headless=False, size=(100, 30)) as pilot:
        driver: Any = app._driver
        driver.text = text

        async def rest() -> None:
            before = -1
            while driver.received != before:
                before = driver.received
                await asyncio.sleep(0.15)
                await pilot.pause()

        await rest()
        start = {"start_bytes": driver.received, "start_images": driver.images}
        sizes, seconds = [], []
        for number in range(1, swaps + 1):
            before, begin = driver.received, time.perf_counter()
            show(app.query_one("#image"), number)
            await rest()
            sizes.append(driver.received - before)
            seconds.append(driver.last - begin)
    return {**start, "bytes": median(sizes), "ms": median(seconds) * 1000}


def main() -> None:
    options = parser(__doc__).parse_args()
    report = Report("graphics", options)
    rounds = 5 if options.quick else 5 * options.rounds
    small, large = samples(4 if options.quick else 12), photo()
    sources = sorted(Path(__file__).parents[1].glob("src/labeltui/graphics"))

    ours: dict[str, Any] = {
        "sixel": SixelEncoder(CELL),
        "kitty": KittyEncoder(CELL),
        "blocks": BlocksEncoder(CELL),
        "ascii": AsciiEncoder(CELL),
    }

    def encode(kind: str, image: Image.Image) -> Callable[[], Any]:
        return lambda: ours[kind].encode(image, COLUMNS, ROWS)

    def encoding() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, image in (("sample", small[0]), ("photo", large)):
            calls: dict[str, Callable[[], object]] = {kind: encode(kind, image) for kind in ours}
            calls[PEER] = their_encoding(image)
            times = interleaved(calls, rounds, warm=True)
            found[name] = {kind: median(seconds) * 1000 for kind, seconds in times.items()}
        for kind in ours:
            found[f"{kind} bytes"] = [encode(kind, image)().wire for image in small]
            found[f"{kind} photo bytes"] = encode(kind, large)().wire
        found["peer bytes"] = [len(their_encoding(image)()) for image in small]
        found["peer photo bytes"] = len(their_encoding(large)())
        return found

    if report.wanted("encoding"):
        cell = report.cell("encoding", encoding, *sources, rounds=rounds, samples=len(small))
        for name, target in (("sample", 3.0), ("photo", 12.0)):
            size = "32 x 32" if name == "sample" else "224 x 224"
            what = f"encoding: sixel, {size} to 400 x 400 pixels"
            report.add(what, cell[name]["sixel"], "ms", better="lower", target=target, detail=cell[name])
        for kind, target in (("sixel", 22_000), ("kitty", 8_000), ("blocks", 32_000)):
            sizes = cell[f"{kind} bytes"]
            what = f"encoding: bytes of a 32 x 32 sample, {kind}, most of {len(sizes)}"
            detail = {"median": median(sizes), "photo": cell[f"{kind} photo bytes"]}
            report.add(what, max(sizes), "bytes", better="lower", target=target, detail=detail)
        for name, theirs, key in (
            ("sample", median(cell["peer bytes"]), "sixel bytes"),
            ("photo", cell["peer photo bytes"], "sixel photo bytes"),
        ):
            faster = cell[name][PEER] / cell[name]["sixel"]
            mine = median(cell[key]) if name == "sample" else cell[key]
            detail = {"ms": cell[name]["sixel"], "peer_ms": cell[name][PEER]}
            report.add(f"encoding: {name}, faster", faster, "x", target=4, peer=version(PEER), detail=detail)
            # The target is stated for a small sample; a photograph has more to say.
            report.add(
                f"encoding: {name}, fewer bytes",
                theirs / mine,
                "x",
                target=3 if name == "sample" else None,
                peer=version(PEER),
                detail={"bytes": mine, "peer_bytes": theirs},
            )

    if report.wanted("widget"):
        swaps = 3 if options.quick else 10

        large_ones = [photo(0), photo(1)]

        def our_show(widget: ImageView, number: int) -> None:
            widget.show(number, small[number % len(small)])

        def their_show(widget: Any, number: int) -> None:
            widget.image = small[number % len(small)]

        def our_photo(widget: ImageView, number: int) -> None:
            widget.show(number % 2, large_ones[number % 2])

        def their_photo(widget: Any, number: int) -> None:
            widget.image = large_ones[number % 2]

        def running() -> dict[str, Any]:
            theirs = peer("textual_image.widget", PEER).SixelImage
            found = {
                kind: asyncio.run(
                    in_app(lambda: Image(id="image"), our_show, kind, swaps, kind in ("blocks", "ascii"))
                )
                for kind in ("sixel", "kitty", "blocks", "ascii")
            }
            found[PEER] = asyncio.run(in_app(lambda: theirs(id="image"), their_show, "blocks", swaps))
            found["photo"] = asyncio.run(in_app(lambda: Image(id="image"), our_photo, "sixel", swaps))
            found[f"{PEER} photo"] = asyncio.run(
                in_app(lambda: theirs(id="image"), their_photo, "blocks", swaps)
            )
            return found

        cell = report.cell("widget", running, *sources, swaps=swaps, samples=len(small))
        mine, theirs = cell["sixel"], cell[PEER]
        detail = {kind: cell[kind] for kind in cell}
        report.add(
            "widget: next image, faster", theirs["ms"] / mine["ms"], "x", peer=version(PEER), detail=detail
        )
        report.add(
            "widget: next image, fewer bytes",
            theirs["bytes"] / mine["bytes"],
            "x",
            target=3,
            peer=version(PEER),
        )
        report.add(
            "widget: next photo, fewer bytes",
            cell[f"{PEER} photo"]["bytes"] / cell["photo"]["bytes"],
            "x",
            target=3,
            peer=version(PEER),
        )
        report.add(
            "widget: start, fewer bytes", theirs["start_bytes"] / mine["start_bytes"], "x", peer=version(PEER)
        )
        report.add(
            "widget: times the first image is sent",
            mine["start_images"],
            "",
            better="lower",
            target=1,
            detail={"peer": theirs["start_images"]},
        )
    report.finish()


if __name__ == "__main__":
    main()
