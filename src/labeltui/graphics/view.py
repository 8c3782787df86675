"""Widgets that show images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

from PIL import Image
from rich.segment import Segment
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from labeltui.graphics.base import WHOLE, Crop, Encoded, PixelImage, TextImage
from labeltui.graphics.canvas import Canvas, canvas_of
from labeltui.graphics.strips import joined
from labeltui.graphics.studio import Failure, Load, Order, Result

PATIENCE = 0.12
"""Seconds that the previous image may stay while the next one is made."""


class ImageView(Widget):
    """Shows one image as well as the terminal can, in its shape, as large as fits.

    An image is encoded in a thread and kept, so that going back to it costs nothing.
    """

    DEFAULT_CSS = """
    ImageView { width: 1fr; height: 1fr; color: $text-muted; content-align: center middle; text-align: center; }
    """

    class Drawn(Message):
        """A wish was fulfilled; from the encoding thread to the widget."""

        bubble = False

        def __init__(self, order: Order, result: Result) -> None:
            self.order = order
            self.result = result
            super().__init__()

    def __init__(
        self,
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
        disabled: bool = False,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes, disabled=disabled)
        self.encoded: Encoded | None = None
        """The image on show, or none."""
        self._key: Hashable = None
        self._load: Load | None = None
        self._crop: Crop = WHOLE
        self._message = ""
        self._trouble = ""
        self._order: Order | None = None
        self._timer: Timer | None = None
        self._canvas: Canvas | None = None

    # What others call

    def show(
        self,
        key: Hashable,
        image: Image.Image | Callable[[], Image.Image] | None,
        message: str = "",
        crop: Crop = WHOLE,
    ) -> None:
        """Show another image.

        Parameters
        ----------
        key : hashable
            Names the image; the same key always means the same pixels.
        image : PIL.Image.Image or callable, optional
            The image, or a function that loads it, called in the encoding thread only when needed. What it
            raises is shown instead of the image. None shows the message alone.
        message : str
            Shown while there is no image. Plain text, never markup.
        crop : tuple of float
            Left, top, right, bottom of the part to show, as shares of the whole.
        """
        self._key = key
        self._load = image if image is None or callable(image) else _constant(image)
        self._message = message
        self._crop = crop
        self.encode()

    def zoom(self, crop: Crop) -> None:
        """Show another part of the same image."""
        self._crop = crop
        self.encode()

    def clear(self, message: str = "") -> None:
        """Show no image."""
        self.show(None, None, message)

    def prefetch(self, keys: Iterable[Hashable], loader: Callable[[Hashable], Image.Image]) -> None:
        """Encode images that will probably be shown here next, when nothing else is waited for.

        Parameters
        ----------
        keys : iterable of hashable
            Most probable first.
        loader : callable
            Gets a key, returns its image; called in the encoding thread.
        """
        columns, rows = self._area()
        if self._canvas is None or not columns or not rows:
            return
        self._canvas.studio.ahead(
            [(Order(key, columns, rows), lambda key=key: loader(key)) for key in keys]  # type: ignore[misc]
        )

    # Encoding

    def on_mount(self) -> None:
        self._canvas = canvas_of(self.app)
        self._canvas.add(self)
        self.watch(self.app, "theme", self._canvas.themed, init=False)

    def on_unmount(self) -> None:
        if self._canvas is not None:
            self._canvas.remove(self)
            self._canvas = None

    def on_resize(self) -> None:
        if self._canvas is not None:
            self._canvas.resized()
        # Scrollbars come and go while a layout settles: one image is enough.
        self.call_after_refresh(self.encode)

    @property
    def fits(self) -> bool:
        """Whether the image on show was made for the widget's present size."""
        if self.encoded is None:
            return True
        # One row may be missing: see _area. What is scrolled afterwards keeps it.
        (columns, rows), (width, height) = self.encoded.area, self.content_size
        return columns == width and rows in (height, height - 1)

    def _area(self) -> tuple[int, int]:
        """Columns and rows for an image; pixels leave the screen's last row, where terminals scroll."""
        columns, rows = self.content_size
        if self._canvas is not None and self._canvas.pixels and rows > 1:
            bottom = self.content_region.bottom
            if bottom == self.app.size.height:
                rows -= 1
        return columns, rows

    def encode(self) -> None:
        """Get the image for the present size: at once if it is kept, else soon."""
        columns, rows = self._area()
        if self._canvas is None or not columns or not rows:
            return
        studio = self._canvas.studio
        if self._load is None:
            self._order = None
            studio.forget(id(self))
            self._put(None)
            return
        order = self._order = Order(self._key, columns, rows, self._crop)
        kept = studio.ready(order)
        if kept is not None:
            studio.forget(id(self))
            self._put(kept)
            return
        if self._timer is None:
            self._timer = self.set_timer(PATIENCE, self._late)
        studio.ask(id(self), order, self._load, lambda order, result: self._done(order, result))

    def _done(self, order: Order, result: Result) -> None:
        if self.is_running:
            self.post_message(self.Drawn(order, result))

    def on_image_view_drawn(self, message: Drawn) -> None:
        if message.order == self._order:
            self._put(message.result)

    def _late(self) -> None:
        """The next image takes its time: a wrong one must not stand beside the new sample's text."""
        self._timer = None
        self._put(None)

    def _put(self, result: Result | None) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._trouble = result.message if isinstance(result, Failure) else ""
        old, self.encoded = self.encoded, result if isinstance(result, Encoded) else None
        new = self.encoded
        if (
            isinstance(old, PixelImage)
            and isinstance(new, PixelImage)
            and (old.kind, old.box, old.pixels) == (new.kind, new.box, new.pixels)
        ):
            # Exactly over the old pixels: the text below needs no repainting.
            if new is not old and self._canvas is not None:
                self._canvas.request()
        elif new is None or new is not old:
            self.refresh()

    # Drawing

    def render(self) -> Content:
        return Content("" if self.encoded is not None else self._trouble or self._message)

    def render_line(self, y: int) -> Strip:
        if self.encoded is None:
            return super().render_line(y)
        # What lies around and below a image.
        return Strip.blank(self.size.width, self.visual_style.rich_style)

    def render_lines(self, crop: Region) -> list[Strip]:
        image = self.encoded
        if not isinstance(image, TextImage):
            return super().render_lines(crop)
        # The image's strips bypass the styles' cache, which would take them apart again.
        blank = super().render_lines(Region(crop.x, crop.y, crop.width, 1))[0]
        strips = [blank] * crop.height
        left = self.gutter.left + image.box.x
        top = self.gutter.top + image.box.y
        for row in range(max(crop.y, top), min(crop.bottom, top + image.box.height)):
            strips[row - crop.y] = _splice(blank, self._inked(image, row - top), left, crop)
        return strips

    def _inked(self, image: TextImage, row: int) -> Strip:
        strip = image.strips[row]
        if image.kind == "ascii":
            line = Strip([Segment(strip.text, self.rich_style)], strip.cell_length)
            for filter_ in self.get_line_filters():  # such as the one for NO_COLOR
                line = line.apply_filter(filter_, self.background_colors[1])
            return line
        return strip


def _splice(base: Strip, line: Strip, left: int, crop: Region) -> Strip:
    start, end = max(left, crop.x), min(left + line.cell_length, crop.right)
    if start >= end:
        return base
    if (start, end) != (left, left + line.cell_length):
        line = line.crop(start - left, end - left)
    parts = [base.crop(0, start - crop.x), line, base.crop(end - crop.x)]
    parts = [part for part in parts if part.cell_length]
    return joined(parts)


def _constant(image: Image.Image) -> Load:
    return lambda: image


class Thumb(NamedTuple):
    """One entry of `Thumbnails`.

    Attributes
    ----------
    key : hashable
        Names the image.
    image : PIL.Image.Image or callable
        The image or a function that loads it.
    caption : str
        Plain text below the image.
    classes : str
        Style classes of the entry, such as ``-selected``.
    """

    key: Hashable
    image: Image.Image | Callable[[], Image.Image] | None
    caption: str = ""
    classes: str = ""


class Thumbnail(Vertical):
    """A small image above its caption."""

    DEFAULT_CSS = """
    Thumbnail { width: 100%; height: 100%; }
    Thumbnail > ImageView { width: 100%; height: 1fr; }
    Thumbnail > Static { height: 1; width: 100%; text-align: center; text-wrap: nowrap; }
    """

    def compose(self) -> ComposeResult:
        yield ImageView()
        yield Static("", markup=False)


class Thumbnails(Container):
    """Several small images: a strip of neighbours or a contact sheet.

    The entries fill rows from left to right. What does not fit is not made; `capacity` says how many do.

    Parameters
    ----------
    columns, rows : int
        Size of one image in cells, its caption not counted.
    captions : int
        Lines of text below each.
    gap : int
        Lines between two rows of entries.
    """

    DEFAULT_CSS = """
    Thumbnails { layout: grid; grid-gutter: 0 1; overflow: hidden; height: auto; }
    """

    def __init__(
        self,
        columns: int = 8,
        rows: int = 4,
        captions: int = 1,
        gap: int = 0,
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.cell_columns = columns
        self.cell_rows = rows
        self.captions = captions
        self.gap = gap
        self._thumbs: Sequence[Thumb] = ()

    @property
    def across(self) -> int:
        """How many entries stand side by side."""
        return max(1, (self.content_size.width + 1) // (self.cell_columns + 1))

    @property
    def capacity(self) -> int:
        """How many entries fit."""
        height = self.cell_rows + self.captions + self.gap
        return self.across * max(1, (self.content_size.height + self.gap) // height)

    def show(self, thumbs: Sequence[Thumb]) -> None:
        """Show these entries; widgets are used again, so that unchanged images are not sent again."""
        self._thumbs = thumbs
        self._arrange()

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        if not self.content_size.width:
            return
        shown = self._thumbs[: self.capacity] if self.content_size.height else self._thumbs[: self.across]
        self.styles.grid_size_columns = self.across
        self.styles.grid_columns = str(self.cell_columns)
        self.styles.grid_rows = str(self.cell_rows + self.captions)
        self.styles.grid_gutter_horizontal = self.gap
        entries = list(self.query_children(Thumbnail))
        if len(shown) > len(entries):
            more = [Thumbnail() for _ in range(len(shown) - len(entries))]
            self.mount(*more)
            self.call_after_refresh(self._fill)
        else:
            self._fill()

    def _fill(self) -> None:
        entries = list(self.query_children(Thumbnail))
        if not all(entry.children for entry in entries):  # mounted, not composed yet
            self.call_after_refresh(self._fill)
            return
        shown = self._thumbs[: self.capacity]
        for position, entry in enumerate(entries):
            if position >= len(shown):
                entry.display = False
                continue
            thumb = shown[position]
            entry.display = True
            entry.set_classes(thumb.classes)
            entry.query_one(ImageView).show(thumb.key, thumb.image)
            caption = entry.query_one(Static)
            caption.display = self.captions > 0
            caption.styles.height = self.captions
            caption.update(Content(thumb.caption), layout=False)
