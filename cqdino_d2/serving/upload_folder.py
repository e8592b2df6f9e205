"""The folder of uploads and drawn images, kept below a total size and age."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DISK_IS_FULL = "The server's disk is full."
_ENTRY_BYTES = 4096  # what a file's own folder takes, about


@dataclass(frozen=True)
class _StoredFile:
    path: Path
    num_bytes: int
    time: float


class UploadFolder:
    """A folder whose oldest files go when it is full.

    Args:
        folder: is made; every file below it belongs to the server and may be deleted.
        most_bytes: of all files together.
        keep_seconds: after which a file is deleted.
        clock: the time that files bear.
    """

    def __init__(
        self,
        folder: Path,
        *,
        most_bytes: int,
        keep_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.most_bytes, self.keep_seconds = folder, most_bytes, keep_seconds
        self._clock, self._lock, self._reserved = clock, threading.Lock(), 0
        folder.mkdir(parents=True, exist_ok=True)

    def used_bytes(self) -> int:
        """What the files take, a folder for each included."""
        return sum(file.num_bytes for file in self._files())

    def reserve(self, num_bytes: int) -> bool:
        """Makes room for a file that is about to arrive; False where others arrive already.

        Each success needs a `release`.
        """
        with self._lock:
            if self._reserved + num_bytes > self.most_bytes // 2:
                return False
            self._reserved += num_bytes
        self.tidy()
        return True

    def disk_has(self, num_bytes: int) -> bool:
        """Whether the disk of the folder has this much room."""
        return shutil.disk_usage(self.folder).free >= num_bytes

    def release(self, num_bytes: int) -> None:
        """The file is there, or does not come."""
        with self._lock:
            self._reserved -= num_bytes

    def tidy(self) -> None:
        """Deletes what is too old, then the oldest files until the rest fits."""
        with self._lock:
            files = sorted(self._files(), key=lambda file: file.time)
            room = self.most_bytes - self._reserved
            total = sum(file.num_bytes for file in files)
            too_old = self._clock() - self.keep_seconds
            for file in files:
                if file.time > too_old and total <= room:
                    break
                self._delete(file.path)
                total -= file.num_bytes

    def _files(self) -> Iterator[_StoredFile]:
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                try:
                    found = path.lstat()
                except FileNotFoundError:
                    continue
                yield _StoredFile(path, found.st_size + _ENTRY_BYTES, found.st_mtime)

    def _delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        try:
            if path.parent != self.folder:
                path.parent.rmdir()
        except OSError:
            pass  # not empty, or a new upload has just made it
