"""Locks on open files, which end with their process however that ends; POSIX systems have them."""

from __future__ import annotations

import errno
from typing import IO

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None  # type: ignore[assignment]


def can_lock() -> bool:
    """Whether this system has such locks at all; a file system may still refuse them."""
    return fcntl is not None


def lock_file(file: IO[bytes] | int, *, wait: bool = True) -> None:
    """Locks a file for this open file alone (``flock``): forked processes share the lock.

    Args:
        file: an open file or its descriptor.
        wait: until nobody else holds it.

    Raises:
        BlockingIOError: another holds it, and ``wait`` is false.
        OSError: it cannot be locked.
    """
    _require_locks()
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def lock_for_process(file: IO[str]) -> None:
    """Locks a file for this process alone (``lockf``): forked processes do not hold it.

    Raises:
        OSError: another process holds it (``EACCES``, ``EAGAIN``), or it cannot be locked.
    """
    _require_locks()
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _require_locks() -> None:
    if not can_lock():
        raise OSError(errno.ENOSYS, "this system has no locks on files that end with a process")
