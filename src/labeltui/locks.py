"""Advisory locks on files; they end with their process, however it ends."""

from __future__ import annotations

import errno
import fcntl

_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class LocksUnsupported(OSError):
    """The file system has no locks of this kind."""


def try_lock(descriptor: int, *, inherited: bool = True) -> bool:
    """Take an exclusive lock on an open file, without waiting.

    Parameters
    ----------
    descriptor : int
        Of a file or directory; the lock ends when it is closed.
    inherited : bool
        Whether child processes hold the lock too, until all of them have ended (``flock``); False needs a descriptor
        open for writing (``lockf``).

    Returns
    -------
    bool
        Whether the lock was acquired; False if another process holds it.

    Raises
    ------
    LocksUnsupported
        The file system has no such locks.
    OSError
        Anything else went wrong.
    """
    take = fcntl.flock if inherited else fcntl.lockf
    try:
        take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _NO_LOCKS:
            raise LocksUnsupported(error.errno, error.strerror) from None
        raise
    return True
