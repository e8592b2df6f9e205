"""The images of a job, listed once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..files import inside
from ..files.images import image_suffixes
from ..files.text_lines import read_lines


def list_images(source: Path) -> list[str]:
    """The images below a folder, sorted, or the lines of a text file.

    Returns:
        Names below the folder, or below that of the text file.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: no image, a name twice, one that leads out of the folder, or one that is no
            text of one line.
    """
    if source.is_dir():
        names = sorted(_below(source))
    elif source.is_file():
        names = [line for line in read_lines(source) if line]
    else:
        raise FileNotFoundError(f"no such folder or list of images: {source}")
    if not names:
        raise ValueError(f"{source} names no image")
    check_names(names, source)
    return names


def check_names(names: Sequence[str], source: Path) -> None:
    """Refuses names that stand for two files or lead elsewhere.

    Raises:
        ValueError: see there.
    """
    for name in names:
        if not is_line(name):
            raise ValueError(f"{source} has a file name that is no text of one line: {name!a}")
    counts = Counter(names)
    if len(counts) < len(names):
        raise ValueError(f"{source} names {counts.most_common(1)[0][0]!r} twice")
    for name in names:
        inside(source, name)


def _below(folder: Path) -> Iterator[str]:
    suffixes = image_suffixes()
    for place, folders, files in os.walk(folder):
        folders.sort()
        below = os.path.relpath(place, folder)
        for name in files:
            if os.path.splitext(name)[1].lower() in suffixes:
                yield name if below == "." else f"{Path(below).as_posix()}/{name}"


def is_line(name: str) -> bool:
    """Whether a list can hold a name: UTF-8, no line breaks, no blanks around it."""
    try:
        name.encode()
    except UnicodeEncodeError:  # a file name in another encoding
        return False
    return name == name.strip() and name.splitlines() == [name]
