"""Decoding one image, and the process that does nothing else.

The process is started by `labeltui.embed.decoders`, gets tasks over a socket and writes pixels into a
`SharedBuffer`. It ends when the socket does, so it never outlives the process that started it.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np

from labeltui.embed.buffer import DECODED, FAILED, SharedBuffer
from labeltui.embed.transform import Transform
from labeltui.errors import LabeltuiError
from labeltui.sources import Images
from labeltui.sources.decode import REMARK, pixel_hash

Item = tuple[bytes, int]  # id and index of a sample


def decode_into(
    buffer: SharedBuffer, row: int, images: Images, transform: Transform, sample: Item
) -> str | None:
    """Fill one row of a buffer.

    Parameters
    ----------
    buffer : SharedBuffer
    row : int
        Row to fill.
    images : Images
    transform : Transform
    sample : (bytes, int)
        Id and index of the sample.

    Returns
    -------
    str or None
        Why the image cannot be used, or what a person should know of it although it can.
    """
    try:
        data = images.read(*sample)
        raw = data if isinstance(data, bytes) else data.tobytes()
        buffer.content[row] = np.frombuffer(hashlib.sha256(raw).digest(), np.uint8)
        image = images.decode(data)
        buffer.image[row] = np.frombuffer(pixel_hash(image), np.uint8)
        buffer.pixels[row] = transform(image)
        buffer.state[row] = DECODED
        return image.info.get(REMARK)
    except LabeltuiError as error:
        reason = error.message
    except Exception as error:  # whatever it is, it is this image's fault, and others wait
        reason = f"{type(error).__name__}: {error}"
    buffer.state[row] = FAILED
    return reason


def main(socket: int, memory: int) -> None:
    """Serve tasks until the other side hangs up.

    Parameters
    ----------
    socket, memory : int
        Inherited descriptors of the connection and of the buffer's file.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that embeds; it hangs up
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(socket)
    images: Images
    transform: Transform
    try:
        (rows, height, width), images, transform = connection.recv()
        buffer = SharedBuffer(rows, height, width, memory)
        connection.send("ready")
        while True:
            row: int
            samples: Sequence[Item]
            row, samples = connection.recv()
            for offset, sample in enumerate(samples):
                reason = decode_into(buffer, row + offset, images, transform, sample)
                if reason is not None:
                    connection.send((offset, reason))
            connection.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # Nothing is worth cleaning up, and exit handlers of imported libraries take their time.
        os._exit(0)
