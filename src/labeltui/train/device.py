"""Who may use a GPU: one training job at a time on each, the others wait."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from labeltui.errors import Cancelled
from labeltui.locks import try_lock

WAIT_SECONDS = 1.0


@contextlib.contextmanager
def held(name: str, waiting: Callable[[], None], cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of a GPU inside the block.

    Parameters
    ----------
    name : str
        A job's device: ``auto``, ``cpu``, ``cuda`` or ``cuda:n``; without a GPU nothing is locked.
    waiting : callable
        Called while another job holds the GPU.
    cancelled : callable
        Whether to stop waiting.

    Raises
    ------
    Cancelled
    """
    import torch

    index = int(name.partition(":")[2] or 0)
    if name == "cpu" or not torch.cuda.is_available() or index >= torch.cuda.device_count():
        yield  # a missing GPU is reported where it is used
        return
    with turn(str(torch.cuda.get_device_properties(index).uuid), waiting, cancelled):
        yield


@contextlib.contextmanager
def turn(
    name: str,
    waiting: Callable[[], None],
    cancelled: Callable[[], bool],
    folder: Path | None = None,
) -> Iterator[None]:
    """Hold a device for the block; wait until no other job on this host has it.

    The lock ends with its process, however that ends.

    Parameters
    ----------
    name : str
        Of the device, for example the UUID of a GPU.
    waiting : callable
        Called while another one has it.
    cancelled : callable
        Whether to stop waiting.
    folder : Path, optional
        Directory of the lock; by default the system's temporary directory, common to all users.
    """
    path = (folder or Path(tempfile.gettempdir())) / f"labeltui-{name}.lock"
    # Read-only where it exists: under fs.protected_regular no user may open another one's file with O_CREAT in a
    # sticky directory, not even to lock it. 0o444 lets all others open it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        before = os.umask(0)
        try:
            descriptor = os.open(path, flags | os.O_CREAT, 0o444)
        finally:
            os.umask(before)
    try:
        while not try_lock(descriptor):
            waiting()
            if cancelled():
                raise Cancelled("the run was stopped", "while it waited for the GPU")
            time.sleep(WAIT_SECONDS)
        yield
    finally:
        os.close(descriptor)
