"""Results of whole files: the ids of their images, and the files that are drawn."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..annotations import image_table
from ..files import write_atomically
from ..structures import one_line
from .media import Source

logger = logging.getLogger(__name__)

_Parts = tuple[str, ...]


class ImageIds:
    """Ids for COCO results: those of an annotation file, or 1, 2, ...

    A file is the image whose file name, with its folders, the path ends in; where there is none,
    the one image whose file name ends in the path below the folder that was named. No image is
    given to two files by the second rule.

    Args:
        annotations: in COCO's form, or None.
        sources: all files that will be asked for.

    Raises:
        FileNotFoundError: there are no such annotations.
        ValueError: they cannot be understood.
    """

    def __init__(self, annotations: Path | None, sources: Sequence[Source]) -> None:
        self._file = annotations
        self._last = 0
        self._ids: dict[Path, Any] = {}
        self._problems: dict[Path, str] = {}
        if annotations is not None:
            table = image_table(annotations)
            named = [PurePosixPath(os.path.normpath(name)).parts for name in table.file_names]
            self._match(sources, named, table.ids)

    def _match(
        self, sources: Sequence[Source], named: Sequence[_Parts], ids: Sequence[Any]
    ) -> None:
        rows_of: dict[str, list[int]] = {}
        for row, parts in enumerate(named):
            rows_of.setdefault(parts[-1] if parts else "", []).append(row)
        loosely: dict[Path, int] = {}
        taken: Counter[int] = Counter()
        for source in sources:
            rows = rows_of.get(source.path.name, [])
            whole = Path(os.path.abspath(source.path)).parts
            below = source.path.parts[-len(source.relative.parts) :]
            found = _longest([row for row in rows if _ends_in(whole, named[row])], named)
            loose = [] if found else [row for row in rows if _ends_in(named[row], below)]
            if not found and not loose:
                self._problems[source.path] = f"{self._file} has no image {'/'.join(below)}"
            elif len(found or loose) > 1:
                names = sorted("/".join(named[row]) for row in (found or loose)[:3])
                self._problems[source.path] = (
                    f"{self._file} has {len(found or loose)} images that it could be: {names}"
                )
            else:
                row = (found or loose)[0]
                taken[row] += 1
                self._ids[source.path] = ids[row]
                if loose:
                    loosely[source.path] = row
        for path, row in loosely.items():
            if taken[row] > 1:
                del self._ids[path]
                self._problems[path] = (
                    f"{self._file} has the image {'/'.join(named[row])}, which {taken[row]} of "
                    "the files could be"
                )
        if by_name := [path for path in loosely if path in self._ids]:
            example = "/".join(named[loosely[by_name[0]]])
            message = "%d files are taken for images of the same name in another folder: %s as %s"
            logger.warning(message, len(by_name), one_line(str(by_name[0])), one_line(example))

    def of(self, path: Path) -> Any:
        """The id of a file's image.

        Raises:
            ValueError: the annotations lack it, or it could be several of theirs.
        """
        if self._file is None:
            self._last += 1
            return self._last
        if path in self._problems:
            raise ValueError(self._problems[path])
        return self._ids[path]


def _ends_in(parts: _Parts, end: _Parts) -> bool:
    return parts[-len(end) :] == end


def _longest(rows: Sequence[int], named: Sequence[_Parts]) -> list[int]:
    longest = max((len(named[row]) for row in rows), default=0)
    return [row for row in rows if len(named[row]) == longest]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes COCO results, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(list(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode()))


def found_line(names: Sequence[str], most: int) -> str:
    """What was found, for a terminal."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return one_line(", ".join(names[:most]) or "nothing") + more
