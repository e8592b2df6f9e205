"""File names out of other people's files: which places they may name."""

from __future__ import annotations

import os
from pathlib import Path


def inside(root: str | Path, name: str | Path) -> Path:
    """The file that a name stands for below a folder.

    The name alone is judged, no file is looked at. Links that lie in the folder are followed when
    the file is opened: the folder's owner made them, and a name in a file cannot. `..` is resolved
    in the name itself, before any link, so that it cannot step out of a link's target.

    Args:
        root: the folder.
        name: relative to it, as an annotation file gives it.

    Returns:
        The path, without `..`.

    Raises:
        ValueError: the name is empty or absolute, leads out of the folder, or holds a NUL.
    """
    relative = os.path.normpath(os.fspath(name) or ".")
    if os.path.isabs(relative):
        raise ValueError(f"the file name {str(name)!r} is absolute, expected one below {root}")
    if relative.split(os.sep, 1)[0] == os.pardir:
        raise ValueError(f"the file name {str(name)!r} leads out of {root}")
    if relative == os.curdir or "\0" in relative:
        raise ValueError(f"{str(name)!r} names no file below {root}")
    return Path(root) / relative
