"""Files that are whole or absent."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO


class CheckpointWriteError(OSError):
    """A file could not be written whole; what stood under its name before is untouched."""


def write_atomically(
    path: str | Path, write: Callable[[IO[bytes]], None], *, several_writers: bool = False
) -> None:
    """Writes a file under a temporary name beside it, then renames it.

    Args:
        path: the file; its folder must exist.
        write: puts the content into the open binary file.
        several_writers: whether other processes may write the same file at the same time: the
            temporary name is then this call's own. Else a later call reuses what a killed
            process left.

    Raises:
        CheckpointWriteError: the content could not be written, for instance on a full disk. The
            temporary file is removed.
    """
    path = Path(path)
    own = f".{uuid.uuid4().hex}" if several_writers else ""
    temporary = path.with_name(f".{path.name}{own}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save turns some OSErrors into RuntimeErrors
        free = shutil.disk_usage(path.parent).free / 2**20 if path.parent.is_dir() else 0.0
        raise CheckpointWriteError(
            f"could not write {path} ({error}); {free:.0f} MiB are free there. "
            "Files written earlier are untouched"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all; makes the folders above it.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode()))
