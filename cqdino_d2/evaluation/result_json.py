"""Reads COCO results files of any size into columns, piece by piece.

A results file is one list of ``{"image_id", "category_id", "bbox", "score"}``. It is cut between
records into pieces of some megabytes, which several threads parse at once; no Python object per
detection is made where the extension is there.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from ..annotations.ids import as_id, id_array
from ..annotations.json_file import GZIP, GzipReader, parse_json, without_garbage_collection
from . import compiled

_PIECE = 8 << 20  # bytes
_HEAD = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*")
_FIRST_KEY = re.compile(rb'\{\s*("(?:[^"\\]|\\.)*")')
_TAIL = re.compile(rb"\s*\]\s*\Z")
_PROGRESS_FROM = 100 << 20  # bytes


@dataclass(frozen=True)
class RawResults:
    """Records as they stand in a file.

    Attributes:
        image_ids: (N,) int64, or objects where one is a text or larger: see `ids`.
        category_ids: (N,) the same.
        boxes_xywh_abs: (N, 4) float64.
        scores: (N,) float64.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    boxes_xywh_abs: np.ndarray
    scores: np.ndarray


class _NoRecordsError(ValueError):
    """A piece of the file that is no sequence of records; with the place within the piece."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(message)
        self.place = place


def parse_records(text: bytearray) -> RawResults:
    """Parses records with commas between them.

    Raises:
        _NoRecordsError: this is something else.
    """
    columns = compiled.parse_results(text) if compiled.is_available() else None
    if columns is not None:
        return RawResults(*columns)
    return _parse_in_python(text)  # what C++ cannot take is told apart here


def _parse_in_python(text: bytearray) -> RawResults:
    try:
        rows = parse_json(b"[" + text + b"]")
    except ValueError as error:
        place = max(getattr(error, "pos", 1) - 1, 0)
        raise _NoRecordsError(place, str(error).split(": line")[0]) from error
    wrong = next((row for row in rows if not _is_record(row)), None)
    if wrong is not None:
        expected = "one has image_id, category_id, bbox (4 numbers) and score"
        raise _NoRecordsError(0, f"this is no detection ({expected}): {str(wrong)[:200]}")
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(len(rows), 4)
    scores = np.array([row["score"] for row in rows], np.float64)
    ids = [id_array([as_id(row[key]) for row in rows]) for key in ("image_id", "category_id")]
    return RawResults(*ids, boxes, scores)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, str) or (_is_number(value) and value == value // 1)


def _is_record(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and _is_whole(row.get("image_id"))
        and _is_whole(row.get("category_id"))
        and _is_number(row.get("score"))
        and isinstance(row.get("bbox"), list)
        and len(row["bbox"]) == 4
        and all(map(_is_number, row["bbox"]))
    )


@dataclass(frozen=True)
class _Piece:
    """Whole records (as far as the cut could be found) and where in the file they begin."""

    start: int
    text: bytearray


def _last_match(pattern: re.Pattern[bytes], text: bytearray) -> re.Match[bytes] | None:
    """Searches near the end first."""
    for window in (1 << 14, len(text)):
        found = None
        for found in pattern.finditer(text, max(len(text) - window, 0)):  # noqa: B007
            pass
        if found is not None:
            return found
    return None


class _Cutter:
    """Cuts a file between records."""

    def __init__(self, path: Path, file: BinaryIO | GzipReader) -> None:
        self.path, self.file = path, file

    def pieces(self) -> Iterator[_Piece]:
        """All pieces; the comma between two of them is in neither.

        Raises:
            ValueError: the file is no list, or ends before it.
        """
        rest = bytearray(self.file.read(_PIECE))
        head = _HEAD.match(rest)
        if head is None:
            raise ValueError(f"{self.path} is no results file: expected a list of detections")
        start = head.end()
        del rest[:start]
        between = self._pattern(rest)
        while True:
            more = self.file.read(_PIECE)
            if not more:
                break
            rest += more
            cut = _last_match(between, rest)
            if cut is None:
                continue
            yield _Piece(start, rest[: cut.start() + 1])
            begin = cut.end(1)
            start += begin
            del rest[:begin]
        yield from self._last(start, rest)

    def _pattern(self, text: bytearray) -> re.Pattern[bytes]:
        """Finds ``}, {"first key"``: the end of one record and the beginning of the next."""
        key = _FIRST_KEY.match(text)
        opening = rb"\{" if key is None else rb"\{\s*" + re.escape(key.group(1))
        return re.compile(rb"\}(\s*,\s*)(?=" + opening + rb"\s*:)")

    def _last(self, start: int, rest: bytearray) -> Iterator[_Piece]:
        tail = _TAIL.search(rest, max(len(rest) - 4096, 0))
        if tail is None:
            end = start + len(rest)
            raise ValueError(
                f"{self.path} is cut short: it ends at byte {end} without the closing bracket of "
                f"its list (the last bytes are {bytes(rest[-40:])!r})"
            )
        del rest[tail.start() :]
        if rest.strip():
            yield _Piece(start, rest)


def read_results_json(path: Path, *, threads: int | None = None) -> Iterator[RawResults]:
    """Reads a results file, piece by piece, with a progress bar if it is large.

    Args:
        path: the file, plain or gzipped.
        threads: that parse; by default as many as there are cores.

    Yields:
        The records in the file's order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no list of detections, or cut short; with the byte.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such results file: {path}")
    threads = threads or compiled.num_threads()
    size = path.stat().st_size
    bar = tqdm(
        total=size,
        desc=path.name,
        unit="B",
        unit_scale=True,
        disable=size < _PROGRESS_FROM,
        mininterval=1,
    )
    waiting: deque[tuple[_Piece, Future[RawResults]]] = deque()
    with (
        open(path, "rb", buffering=0) as file,
        bar,
        without_garbage_collection(),
        ThreadPoolExecutor(threads) as pool,
    ):
        zipped = file.read(len(GZIP)) == GZIP
        file.seek(0)
        pieces = _Cutter(path, GzipReader(path, file) if zipped else file).pieces()
        for piece in pieces:
            waiting.append((piece, pool.submit(parse_records, piece.text)))
            if len(waiting) > threads:
                yield _result(path, waiting)
                bar.update(file.tell() - bar.n)
        while waiting:
            yield _result(path, waiting)
        bar.update(size - bar.n)


def _result(path: Path, waiting: deque[tuple[_Piece, Future[RawResults]]]) -> RawResults:
    """The result of the first piece; where that is cut within a record, with the next one's."""
    piece, future = waiting.popleft()
    try:
        return future.result()
    except _NoRecordsError as error:
        found = error
    if waiting:  # the pattern of the cut may stand within a record
        following = waiting[0][0]
        gap = following.start - piece.start - len(piece.text)
        text = piece.text + b"," + b" " * (gap - 1) + following.text
        try:
            result = parse_records(text)
        except _NoRecordsError:
            pass  # the first error is the one to tell
        else:
            waiting.popleft()
            return result
    where = piece.start + found.place
    raise ValueError(f"{path} is no results file: {found} (near byte {where})") from found
