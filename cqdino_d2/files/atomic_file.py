"""Files that are whole or absent."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

from .locks import can_lock, lock_file

logger = logging.getLogger(__name__)

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
_LONGEST_NAME = 50  # characters of a name that its temporary name repeats
_PROBE = 2**20  # bytes
_FORGOTTEN = 86_400  # seconds after which a file has no writer, where files cannot be locked
_tidied: set[Path] = set()  # folders in which this process has looked for leftovers


class FileWriteError(OSError):
    """A file could not be written whole; what stood under its name before is untouched.

    Args:
        message: names the file.
        cause: what the system said, or None.

    Attributes:
        disk_is_full: whether no other file can be written there, either.
    """

    def __init__(self, message: str, cause: Exception | None = None) -> None:
        super().__init__(message)
        self.disk_is_full = isinstance(cause, OSError) and cause.errno in DISK_IS_FULL


def write_atomically(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file under a temporary name in the same folder, then renames it.

    Any number of processes and threads may write the same file at the same time: it is always one
    of theirs, whole. What killed writers have left in the folder is removed.

    Args:
        path: the file; its folder must exist.
        write: puts the content into the open binary file.

    Raises:
        FileWriteError: the content could not be written, for instance on a full disk. The
            temporary file is removed.
    """
    path = Path(path)
    temporary = path
    try:
        _remove_leftovers(path.parent)
        temporary, file = _open_temporary(path)
        with file:
            _fill(file, write)
            if not can_lock():
                file.close()  # Windows renames no open file
            os.replace(temporary, path)  # while the lock says that it has a writer
    except (OSError, RuntimeError) as error:
        free = shutil.disk_usage(path.parent).free / 2**20 if path.parent.is_dir() else 0.0
        raise FileWriteError(
            f"could not write {path} ({error}); {free:.0f} MiB are free there. "
            "Files written earlier are untouched",
            error,
        ) from error
    finally:
        if temporary != path:
            temporary.unlink(missing_ok=True)


def _fill(file: IO[bytes], write: Callable[[IO[bytes]], object]) -> None:
    try:
        write(file)
    except RuntimeError:  # of torch.save, which hides what the system said: it says so once more
        file.write(bytes(_PROBE))
        file.flush()
        raise
    file.flush()
    os.fsync(file.fileno())


def _open_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file next to another, locked as long as it is open."""
    while True:
        name = f".{path.name[:_LONGEST_NAME]}.{uuid.uuid4().hex}.tmp"
        temporary = path.with_name(name)
        file = open(temporary, "xb")
        try:
            lock_file(file)
        except OSError as error:
            logger.debug("%s is not locked: %s", temporary, error)
        if temporary.exists():  # nobody took it for a leftover before it was locked
            return temporary, file
        file.close()


def _remove_leftovers(folder: Path) -> None:
    """Removes temporary files without a writer, once in each folder."""
    folder = folder.absolute()
    if folder in _tidied:
        return
    _tidied.add(folder)
    for path in folder.glob(".*.tmp"):
        if not _TEMPORARY.fullmatch(path.name):
            continue
        try:
            with open(path, "r+b") as file:
                if _has_no_writer(file):
                    path.unlink()
        except OSError as error:
            logger.debug("%s is left: %s", path, error)


def _has_no_writer(file: IO[bytes]) -> bool:
    """Locks end with their process, however that ends."""
    try:
        lock_file(file, wait=False)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(file.fileno()).st_mtime > _FORGOTTEN
    return True


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all; makes the folders above it.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode()))
