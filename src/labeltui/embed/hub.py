"""Published weights on a machine without a network."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants

DECODE_TIMEOUT = 3.0  # seconds for a connection


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Let the hub's client look into its cache only, inside the block, if its server cannot be reached.

    Otherwise the client retries for about a minute.
    """
    if constants.HF_HUB_OFFLINE or reachable(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def reachable(address: str) -> bool:
    """Return whether a server accepts connections; True, untested, behind a proxy."""
    parts = urllib.parse.urlsplit(address)
    if not parts.hostname or parts.scheme in urllib.request.getproxies():
        return True
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname, port), DECODE_TIMEOUT).close()
    except OSError:
        return False
    return True
