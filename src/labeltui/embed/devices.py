"""Several devices of one machine: a process for each, with the model and its own decoding processes.

The blocks are dealt out in turn. A block's bytes depend on nothing but the block, so on CPUs they are those of one
device.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from labeltui import parallel
from labeltui.embed.children import Child
from labeltui.embed.embedders import Embedder
from labeltui.embed.load import load_embedder
from labeltui.embed.spec import EmbedSpec
from labeltui.embed.stream import Block, stream
from labeltui.errors import Cancelled, LabeltuiError, ModelError
from labeltui.io.names import Names, pack_names
from labeltui.sources import Images, Source
from labeltui.text import safe

SERVE = "import sys; from labeltui.embed.devices import main; main(int(sys.argv[1]))"
WAIT = 0.2  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Elsewhere:
    """What `stream` needs of a source in another process."""

    ids: Sequence[bytes]
    opened: Images
    embeddings: None = None

    def images(self) -> Images:
        return self.opened


def on_devices(
    source: Source,
    embedder: Embedder,
    spec: EmbedSpec,
    batch_ranges: Sequence[tuple[int, int]],
    workers: int | None = None,
    cancel: Callable[[], bool] | None = None,
    threads: int | None = None,
) -> Iterator[Block]:
    """Yield the finished blocks of a source of images, in any order.

    Parameters
    ----------
    source : Source
    embedder : Embedder
        As each process makes it from `spec`.
    spec : EmbedSpec
        Its `devices` are used, one process each.
    batch_ranges : sequence of (int, int)
    workers : int, optional
        Decoding processes of all devices together; 0 decodes in the processes of the devices, None is one per thread.
    cancel : callable, optional
        Called several times a second; True cancels.
    threads : int, optional
        Of all devices together, see `labeltui.parallel.count_threads`.

    Raises
    ------
    Cancelled
    ModelError
        A process ended, or its model fails.
    """
    n = len(spec.devices)
    share = max(1, parallel.count_threads(threads) // n)
    names = pack_names("names", source.ids)
    children: dict[Connection, tuple[str, Child]] = {}
    try:
        for number, device in enumerate(spec.devices):
            ranges = list(batch_ranges[number::n])
            if not ranges:
                continue
            child = Child(SERVE)
            children[child.connection] = device, child
            own = replace(spec, device=device, batch_size=embedder.batch_size)
            decoding = workers if not workers else max(1, workers // n)
            child.connection.send((source.images(), names, own, ranges, decoding, share))
        waiting: list[Any] = list(children)
        while waiting:
            if cancel is not None and cancel():
                raise Cancelled("stopped while images were embedded")
            for connection in wait(waiting, WAIT):
                device, child = children[connection]  # type: ignore[index]
                try:
                    message = child.connection.recv()
                except (EOFError, OSError):
                    raise ModelError(
                        "the process of each --device must run to its end",
                        f"that of {safe(device)} ended with {child.how_it_ended()} {child.last_words()}".strip(),
                    ) from None
                if message is None:
                    waiting.remove(connection)
                elif isinstance(message, Exception):
                    raise message
                else:
                    yield message
    finally:
        for _, child in children.values():
            child.end()


def main(descriptor: int) -> None:
    """Embed the blocks of one device until all are sent or the other side hangs up.

    Parameters
    ----------
    descriptor : int
        Inherited end of the connection.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked; it hangs up
    connection = Connection(descriptor)
    try:
        images, names, spec, ranges, workers, threads = connection.recv()
        source: Any = Elsewhere(Names(names["names"], names["names_offsets"]), images)
        try:
            for block in stream(source, load_embedder(spec), ranges, workers, threads=threads):
                connection.send(block)
            connection.send(None)
        except LabeltuiError as error:
            connection.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)
