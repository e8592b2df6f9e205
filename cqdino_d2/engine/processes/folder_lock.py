"""One run at a time writes into a folder."""

from __future__ import annotations

import errno
import logging
import os
import socket
from pathlib import Path
from typing import IO, ClassVar

from ...files.locks import lock_for_process

_LOGGER = logging.getLogger(__name__)
LOCK_FILE = ".lock"
_HELD_BY_ANOTHER = (errno.EACCES, errno.EAGAIN)


class FolderInUseError(OSError):
    """Another process writes into the folder."""


class FolderLock:
    """Holds a folder until it is released or the process ends, however it ends.

    The system keeps the lock (POSIX ``fcntl``), so that a killed process leaves none behind. It
    belongs to the process alone: workers that it forked do not keep it when it is killed, which
    locks by ``flock`` would. The same process may take it again.

    Args:
        folder: exists.

    Raises:
        FolderInUseError: another process holds it; which one is said.
    """

    # (process, file): closing a second open file of the same name would unlock the first
    _files: ClassVar[dict[tuple[int, Path], IO[str]]] = {}

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder, LOCK_FILE).resolve()
        self._key = (os.getpid(), path)
        if self._key in self._files:
            return
        file = open(path, "a+", encoding="utf-8")
        try:
            lock_for_process(file)
        except OSError as error:
            if error.errno in _HELD_BY_ANOTHER:
                holder = _holder(file)
                file.close()
                raise FolderInUseError(
                    f"{folder} is in use by {holder}: wait for its end, or give another "
                    "train.output_dir"
                ) from error
            _LOGGER.warning(
                "%s cannot be locked (%s): nothing keeps a second run out", folder, error
            )
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._files[self._key] = file

    def release(self) -> None:
        """Lets others write into the folder."""
        file = self._files.pop(self._key, None)
        if file is not None:
            file.close()


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read(200).strip() or "another process"
