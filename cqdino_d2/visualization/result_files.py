"""Results of whole files: the ids of their images, and the files that are drawn."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
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

    A file is the image whose file name, with its folders, the path ends in (the longest such name);
    where there is none, the one image whose file name ends in the path below the folder that was
    named. An image is one file: of several that it could be it is the one whose path below its
    folder is just its name.

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
        files_of: dict[int, list[tuple[_Fit, Path]]] = {}
        for source in sources:
            fit, rows = _best_rows(source, rows_of.get(source.path.name, []), named)
            if len(rows) == 1:
                files_of.setdefault(rows[0], []).append((fit, source.path))
                continue
            names = sorted("/".join(named[row]) for row in rows[:3])
            below = "/".join(_below(source))
            several = f"has {len(rows)} images that it could be: {names}"
            known = several if rows else f"has no image {below}"
            self._problems[source.path] = f"{self._file} {known}"
        loose = []
        for row, files in files_of.items():
            best = max(fit for fit, _ in files)
            single = sum(fit == best for fit, _ in files) == 1
            for fit, path in files:
                if single and fit == best:
                    self._ids[path] = ids[row]
                    loose += [(path, named[row])] if fit == _Fit.BY_NAME else []
                else:
                    self._problems[path] = (
                        f"{self._file} has the image {'/'.join(named[row])}, which {len(files)} "
                        "of the files could be"
                    )
        if loose:
            example = one_line(f"{loose[0][0]} as {'/'.join(loose[0][1])}")
            message = "%d files are taken for images of the same name in another folder: %s"
            logger.warning(message, len(loose), example)

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


class _Fit(IntEnum):
    """How well a path fits an image's file name."""

    BY_NAME = 0
    WHOLE_NAME = 1
    SAME = 2


def _below(source: Source) -> _Parts:
    """The path below the folder that was named; ``relative`` may have been renamed."""
    return source.path.parts[-len(source.relative.parts) :]


def _best_rows(
    source: Source, rows: Sequence[int], named: Sequence[_Parts]
) -> tuple[_Fit, list[int]]:
    """The images that a file could be, of those with the same last part of their name."""
    whole, below = Path(os.path.abspath(source.path)).parts, _below(source)
    found = [row for row in rows if _ends_in(whole, named[row])]
    if found:
        longest = max(len(named[row]) for row in found)
        found = [row for row in found if len(named[row]) == longest]
        return _Fit.SAME if named[found[0]] == below else _Fit.WHOLE_NAME, found
    return _Fit.BY_NAME, [row for row in rows if _ends_in(named[row], below)]


def _ends_in(parts: _Parts, end: _Parts) -> bool:
    return parts[-len(end) :] == end


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
