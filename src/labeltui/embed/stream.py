"""Embed a source block by block."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from labeltui import parallel
from labeltui.embed.buffer import DECODED, SharedBuffer
from labeltui.embed.decoders import Decoder, InlineDecoder, ProcessDecoder
from labeltui.embed.embedders import Embedder
from labeltui.embed.memory import retain_heap
from labeltui.errors import Cancelled, InputError
from labeltui.paths import NON_FINITE, UNREADABLE, ZERO
from labeltui.sources import Source

# Rows are divided by their length in float32 later: its square must neither vanish nor overflow.
MIN_LENGTH, MAX_LENGTH = 1e-18, 1e18
DECODE_BATCH = 16  # images per request to a decoding process


@dataclass
class Block:
    """Finished rows.

    Attributes
    ----------
    start, stop : int
        Samples ``start..stop-1`` of the source; n of them.
    features : (n, d) float32
        Rows that are not ok are zeros.
    sha256 : (n, 32) uint8
        Of the stored bytes (file or array row); zeros when they cannot be read.
    pixels : (n, 32) uint8
        SHA-256 of the decoded image's size and RGB pixels, or of the row of given embeddings; zeros if
        there are none.
    status : (n,) uint8
        0 ok, 1 unreadable, 2 not finite, 3 zero.
    faults : list of (int, str)
        Index in the source and reason, for each row that is not ok; the text is raw.
    """

    start: int
    stop: int
    features: npt.NDArray[np.float32]
    sha256: npt.NDArray[np.uint8]
    pixels: npt.NDArray[np.uint8]
    status: npt.NDArray[np.uint8]
    faults: list[tuple[int, str]] = field(default_factory=list)


def batch_ranges(n: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the (start, stop) of consecutive blocks of `batch_size` samples; the last may be shorter.

    Parameters
    ----------
    n : int
        Number of samples.
    batch_size : int
        At least 1.

    Returns
    -------
    list of (int, int)

    Raises
    ------
    InputError
        `n` is negative, or `batch_size` below 1.

    >>> batch_ranges(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    if n < 0 or batch_size < 1:
        raise InputError("blocks need n >= 0 and batch_size >= 1", f"n = {n}, batch_size = {batch_size}")
    return [(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]


def stream(
    source: Source,
    embedder: Embedder,
    batch_ranges: Sequence[tuple[int, int]],
    workers: int | None = None,
    cancel: Callable[[], bool] | None = None,
    threads: int | None = None,
    samples: npt.NDArray[np.int64] | None = None,
) -> Iterator[Block]:
    """Yield the finished blocks of a source, in order.

    A block's bytes depend only on the source, the embedder and the block's own range: neither on the other
    blocks nor, on a CPU, on the number of threads or workers.

    Parameters
    ----------
    source : Source
    embedder : Embedder
    batch_ranges : sequence of (int, int)
        Blocks to embed, from `batch_ranges`; a resumed run passes the remaining ones.
    workers : int, optional
        Decoding processes; 0 decodes in this process, None is one per thread.
    cancel : callable, optional
        Called several times a second; True cancels.
    threads : int, optional
        Forward passes at a time on a CPU; None is `labeltui.parallel.count_threads`.
    samples : (n,) int64, optional
        Embed only these; ranges, blocks and faults then count positions in it.

    Raises
    ------
    Cancelled
        `cancel` returned True; blocks already yielded are complete.
    ModelError
        The model fails, for example out of memory on a single image.
    InputError
        A range is outside the source.
    """
    samples = np.arange(len(source.ids)) if samples is None else samples
    for start, stop in batch_ranges:
        if not 0 <= start < stop <= len(samples):
            raise InputError(
                "blocks must be inside the source",
                f"got block {start}..{stop} of {len(samples):,} samples",
            )
    if embedder.transform is None:
        return _given(source, samples, batch_ranges, cancel)
    return _embedded(
        source, embedder, samples, batch_ranges, workers, cancel, parallel.count_threads(threads)
    )


def validate_rows(features: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], list[tuple[int, str]]]:
    """Set invalid rows to zero, in place: not finite, of length zero, or beyond float32's range.

    Returns
    -------
    status : (n,) uint8
    reasons : list of (int, str)
        Of the rows that are not ok.
    """
    status = np.zeros(len(features), np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    reasons = []
    for row in np.flatnonzero(~((length > MIN_LENGTH) & (length < MAX_LENGTH))):
        if np.isnan(length[row]) or np.isinf(length[row]):
            status[row], reason = NON_FINITE, "the embedding holds NaN or infinity"
        elif length[row] >= MAX_LENGTH:
            status[row], reason = (
                NON_FINITE,
                f"the embedding's length {length[row]:.1e} is beyond float32's range",
            )
        else:
            status[row], reason = ZERO, "the embedding has length zero"
        reasons.append((int(row), reason))
        features[row] = 0
    return status, reasons


def _given(
    source: Source,
    samples: npt.NDArray[np.int64],
    batch_ranges: Sequence[tuple[int, int]],
    cancel: Callable[[], bool] | None,
) -> Iterator[Block]:
    assert source.embeddings is not None
    together = len(samples) == len(source.ids)
    for start, stop in batch_ranges:
        if cancel is not None and cancel():
            raise Cancelled("stopped while embeddings were read")
        stored = np.ascontiguousarray(
            source.embeddings[slice(start, stop) if together else samples[start:stop]]
        )
        hashes = [np.frombuffer(hashlib.sha256(row.tobytes()).digest(), np.uint8) for row in stored]
        with np.errstate(over="ignore"):
            features = stored.astype(np.float32)
        status, reasons = validate_rows(features)
        content = np.stack(hashes)
        yield Block(
            start,
            stop,
            features,
            content,
            content.copy(),
            status,
            [(start + row, reason) for row, reason in reasons],
        )


def _embedded(
    source: Source,
    embedder: Embedder,
    samples: npt.NDArray[np.int64],
    batch_ranges: Sequence[tuple[int, int]],
    workers: int | None,
    cancel: Callable[[], bool] | None,
    threads: int,
) -> Iterator[Block]:
    # A generator, so that memory and threads are held only while blocks are requested.
    yield from _Pipeline(source, embedder, samples, batch_ranges, workers, cancel, threads).run()


@dataclass
class _Microbatch:
    """Rows of one block that form one forward pass."""

    first: int  # position in the block
    samples: range
    row: int  # of the buffer
    left: int  # decoding tasks
    reasons: list[tuple[int, str]] = field(default_factory=list)  # offset in the unit


@dataclass
class _PendingBlock:
    """A block that is not finished."""

    block: Block
    left: int  # units
    done: Future[Block]


class _Pipeline:
    """Decode ahead and run forward passes, both in threads that mostly wait or run outside Python.

    The buffer is a ring of units; a unit's rows are reused once its features are computed.
    """

    def __init__(
        self,
        source: Source,
        embedder: Embedder,
        chosen: npt.NDArray[np.int64],
        batch_ranges: Sequence[tuple[int, int]],
        workers: int | None,
        cancel: Callable[[], bool] | None,
        threads: int,
    ) -> None:
        transform = embedder.transform
        assert transform is not None
        self.source = source
        self.chosen = chosen
        self.embedder = embedder
        self.cancel = cancel
        self.batch_ranges = deque(batch_ranges)
        self.pending: deque[_PendingBlock] = deque()
        self.lock = threading.Lock()
        images = source.images()
        crashable = images.encoded and workers != 0
        decoding = (workers or threads) if crashable else threads
        passes = embedder.parallel or threads
        # Enough units to keep every pass running while the next ones are decoded.
        self.units = 2 * passes + max(1, -(-decoding * DECODE_BATCH // embedder.unit))
        self.free = deque(range(self.units))
        self.buffer = SharedBuffer(self.units * embedder.unit, transform.height, transform.width)
        self.decoder: Decoder = (
            ProcessDecoder(self.buffer, images, transform, decoding)
            if crashable
            else InlineDecoder(self.buffer, images, transform)
        )
        self.decoding = ThreadPoolExecutor(decoding, "labeltui-decode")
        self.passing = ThreadPoolExecutor(passes, "labeltui-embed")
        self.queue: deque[tuple[_PendingBlock, int]] = (
            deque()
        )  # units waiting for rows: block, first position

    def run(self) -> Iterator[Block]:
        try:
            with retain_heap():
                while self.batch_ranges or self.pending:
                    self._feed()
                    block = self._wait(self.pending[0].done)
                    self.pending.popleft()
                    yield block
        finally:
            self.decoder.stop()
            self.decoding.shutdown(cancel_futures=True)
            self.passing.shutdown(cancel_futures=True)
            self.decoder.close()
            self.buffer.close()

    def _wait(self, done: Future[Block]) -> Block:
        while True:
            if self.cancel is not None and self.cancel():
                raise Cancelled("stopped while images were embedded")
            try:
                return done.result(timeout=0.1)
            except NotYet:
                if done.done():  # a TimeoutError of its own
                    raise

    def _feed(self) -> None:
        """Start blocks, so that units are waiting whenever rows become free."""
        with self.lock:
            while (
                self.batch_ranges and len(self.queue) < self.units and len(self.pending) < 2 * self.units + 2
            ):
                start, stop = self.batch_ranges.popleft()
                n = stop - start
                block = Block(
                    start,
                    stop,
                    np.zeros((n, self.embedder.dim), np.float32),
                    np.zeros((n, 32), np.uint8),
                    np.zeros((n, 32), np.uint8),
                    np.zeros(n, np.uint8),
                )
                firsts = range(0, n, self.embedder.unit)
                work = _PendingBlock(block, len(firsts), Future())
                self.pending.append(work)
                self.queue.extend((work, first) for first in firsts)
            self._assign()

    def _assign(self) -> None:
        """Assign free rows to waiting units and submit them for decoding; the lock is held."""
        unit = self.embedder.unit
        while self.queue and self.free:
            work, first = self.queue.popleft()
            row = self.free.popleft() * unit
            samples = range(work.block.start + first, min(work.block.start + first + unit, work.block.stop))
            starts = range(0, len(samples), DECODE_BATCH)
            part = _Microbatch(first, samples, row, len(starts))
            self.buffer.clear(row, row + unit)
            for offset in starts:
                self._submit(self.decoding, work, self._decode, part, offset)

    def _submit(
        self, pool: ThreadPoolExecutor, work: _PendingBlock, call: Callable[..., None], *arguments: object
    ) -> None:
        def guarded() -> None:
            try:
                call(work, *arguments)
            except BaseException as error:
                with self.lock:
                    if not work.done.done():
                        work.done.set_exception(error)

        try:
            pool.submit(guarded)
        except RuntimeError:  # the pool was shut down
            if not work.done.done():
                work.done.set_exception(Cancelled("stopped while images were embedded"))

    def _decode(self, work: _PendingBlock, part: _Microbatch, offset: int) -> None:
        samples = self.chosen[part.samples[offset : offset + DECODE_BATCH]].tolist()
        reasons = self.decoder.decode(
            part.row + offset, [(self.source.ids[index], index) for index in samples]
        )
        with self.lock:
            part.reasons += [(offset + position, reason) for position, reason in reasons]
            part.left -= 1
            ready = part.left == 0
        if ready:
            self._submit(self.passing, work, self._pass, part)

    def _pass(self, work: _PendingBlock, part: _Microbatch) -> None:
        rows = slice(part.row, part.row + self.embedder.unit)
        n = len(part.samples)
        features = self.embedder.encode(self.buffer.pixels[rows])[:n]
        status, reasons = validate_rows(features)
        unreadable = self.buffer.state[rows][:n] != DECODED
        features[unreadable] = 0
        status[unreadable] = UNREADABLE
        faults = [(row, reason) for row, reason in reasons if not unreadable[row]] + part.reasons
        block = work.block
        into = slice(part.first, part.first + n)
        block.features[into] = features
        block.sha256[into] = self.buffer.content[rows][:n]
        block.pixels[into] = self.buffer.image[rows][:n]
        block.pixels[into][unreadable] = 0
        block.status[into] = status
        with self.lock:
            block.faults += [(part.samples[row], reason) for row, reason in faults]
            work.left -= 1
            if work.left == 0:
                block.faults.sort()
                work.done.set_result(block)
            self.free.append(part.row // self.embedder.unit)
            self._assign()
