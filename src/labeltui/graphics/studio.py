"""Encodes images off the UI thread and keeps the latest ones.

One thread does all the work, because most of it holds Python's lock anyway: it serves what somebody waits
for, the latest wish of each image, and what was asked ahead of need when nobody waits.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from PIL import Image

from labeltui.errors import LabeltuiError
from labeltui.graphics.base import WHOLE, Crop, Encoded, Encoder
from labeltui.text import safe

Load = Callable[[], Image.Image]
MEMORY = 48 << 20
AHEAD = 64
IDLE = 10.0
"""Seconds without work after which the thread ends; the next wish starts another."""


class Order(NamedTuple):
    """What is to be encoded: which image, which part of it, and for how many cells."""

    key: Hashable
    columns: int
    rows: int
    crop: Crop = WHOLE


class Failure(NamedTuple):
    """An image that could not be made; `message` is fit to be shown."""

    message: str


Result = Encoded | Failure
Done = Callable[[Order, Result], None]


class Studio:
    """A cache of encoded images and the thread that fills it.

    Parameters
    ----------
    encoder : Encoder
    budget : int, optional
        Most bytes that showing one image may send.
    memory : int
        About how many bytes of encoded images are kept.
    """

    def __init__(self, encoder: Encoder, budget: int | None = None, memory: int = MEMORY) -> None:
        self.encoded = 0  # how often the encoder ran; tests and the benchmark read it
        self._encoder = encoder
        self._budget = budget
        self._memory = memory
        self._held = 0
        self._kept: OrderedDict[Order, Encoded] = OrderedDict()
        self._urgent: OrderedDict[int, tuple[Order, Load, Done]] = OrderedDict()
        self._ahead: deque[tuple[Order, Load]] = deque(maxlen=AHEAD)
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def replace_encoder(self, encoder: Encoder) -> None:
        """Use another encoder from now on and forget what the old one made."""
        with self._wake:
            self._encoder = encoder
            self._kept.clear()
            self._ahead.clear()
            self._held = 0

    def ready(self, order: Order) -> Encoded | None:
        """Return an image if it is at hand."""
        with self._wake:
            image = self._kept.get(order)
            if image is not None:
                self._kept.move_to_end(order)
            return image

    def ask(self, owner: int, order: Order, load: Load, done: Done) -> None:
        """Encode in the background.

        Parameters
        ----------
        owner : int
            Requester; a new request replaces its previous one, unless that has started.
        order : Order
        load : callable
            Returns the image.
        done : callable
            Called with the result, in the studio's thread.
        """
        with self._wake:
            self._urgent.pop(owner, None)
            self._urgent[owner] = order, load, done
            self._start()

    def forget(self, owner: int) -> None:
        """Drop what an owner waits for."""
        with self._wake:
            self._urgent.pop(owner, None)

    def ahead(self, orders: Iterable[tuple[Order, Load]]) -> None:
        """Encode when nobody waits; earlier wishes of this kind are dropped."""
        with self._wake:
            self._ahead.clear()
            self._ahead.extend((order, load) for order, load in orders if order not in self._kept)
            if self._ahead:
                self._start()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="labeltui-images", daemon=True)
            self._thread.start()
        self._wake.notify()

    def _work(self) -> None:
        while True:
            with self._wake:
                if not self._wake.wait_for(lambda: self._urgent or self._ahead, IDLE):
                    self._thread = None
                    return
                done: Done | None = None
                if self._urgent:
                    _, (order, load, done) = self._urgent.popitem(last=False)
                else:
                    order, load = self._ahead.popleft()
                encoder = self._encoder
            result = self.make(order, load, encoder)
            if done is not None:
                done(order, result)

    def make(self, order: Order, load: Load, encoder: Encoder | None = None) -> Result:
        """Encode in the calling thread and cache the image.

        Parameters
        ----------
        order : Order
        load : callable
            Returns the image.
        encoder : Encoder, optional
            By default the studio's.

        Returns
        -------
        Result
        """
        encoder = encoder or self._encoder
        kept = self.ready(order)
        if kept is not None:
            return kept
        try:
            image = load()
            encoded = encoder.encode(image, order.columns, order.rows, order.crop, self._budget)
        except LabeltuiError as error:
            return Failure(f"{error.message}: {error.got}" if error.got else error.message)
        except Exception as error:  # a decoder may raise anything on a damaged file; the program goes on
            return Failure(safe(f"the image cannot be shown: {type(error).__name__}: {error}", 300))
        with self._wake:
            self.encoded += 1
            if encoder is self._encoder:
                self._keep(order, encoded)
        return encoded

    def _keep(self, order: Order, encoded: Encoded) -> None:
        old = self._kept.pop(order, None)
        if old is not None:
            self._held -= old.nbytes
        self._kept[order] = encoded
        self._held += encoded.nbytes
        while self._held > self._memory and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._held -= dropped.nbytes
