"""The images of a job, listed once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..files import inside, write_text
from ..files.images import image_suffixes
from ..files.text_lines import read_lines


def list_images(source: Path) -> list[str]:
    """The images below a folder, sorted, or the lines of a text file.

    Returns:
        Names below the folder, or below that of the text file.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: no image, a name twice, or one that leads out of the folder.
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


def kept_list(path: Path, source: Path) -> list[str]:
    """The list of a job: written once, it stays as it is when the job is resumed."""
    if path.is_file():
        return read_lines(path)
    names = list_images(source)
    write_text(path, "\n".join(names) + "\n")
    return names
