"""Ids as files write them: whole numbers of any size, whole numbers written as 1.0, and texts.

One rule decides which are the same, within a file and between files: those that are spelt alike.
1, 1.0 and "1" are one id, "01" is another. An id is kept and written as its file has it (1.0 as 1).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Id = int | str
UNKNOWN = -1
_INT64 = np.iinfo(np.int64)


def as_id(value: int | float | str) -> Id:
    """An id in the form in which it is kept.

    Raises:
        ValueError: a number that is not whole.
    """
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"ids must be whole numbers or texts, got {value!r}")
        return int(value)
    return value


def spelling(one: Id) -> str:
    """What tells an id from others."""
    return one if isinstance(one, str) else str(int(one))


def in_order(ids: Iterable[Id]) -> list[int]:
    """The places of ids in their ascending order: numbers, then texts by their code points."""
    ids = list(ids)
    return sorted(range(len(ids)), key=lambda i: (isinstance(ids[i], str), ids[i]))


def id_array(ids: Sequence[Id]) -> np.ndarray:
    """(N,) int64, or objects where one is a text or too large."""
    if all(type(one) is int for one in ids):
        if not ids or (min(ids) >= _INT64.min and max(ids) <= _INT64.max):
            return np.asarray(ids, dtype=np.int64)
    found = np.empty(len(ids), dtype=object)
    found[:] = ids
    return found


def ids_as_columns(name: str, ids: Sequence[Id]) -> dict[str, np.ndarray]:
    """Columns for a column file: ``NAME_ids``, or JSON texts ``NAME_id`` (see `text_columns`)."""
    array = id_array(ids)
    if array.dtype != object:
        return {f"{name}_ids": array}
    return text_columns(f"{name}_id", [json.dumps(one) for one in ids])


def text_columns(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Strings as ``NAME_bytes``, all in UTF-8, and ``NAME_offsets``, where each begins."""
    encoded = [text.encode("utf-8", errors="surrogatepass") for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return {
        f"{name}_bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        f"{name}_offsets": offsets,
    }


def rows_of(ids: Sequence[int | float | str], row_of: Mapping[Id, int]) -> np.ndarray:
    """(N,) int32 the row of each id, -1 where there is none.

    Args:
        ids: as a file has them.
        row_of: by id; found by its spelling if it is not there as it stands.
    """
    rows = np.fromiter(map(row_of.get, ids, itertools.repeat(UNKNOWN)), np.int32, len(ids))
    if not len(missing := np.flatnonzero(rows == UNKNOWN)):
        return rows
    by_spelling = {spelling(one): row for one, row in row_of.items()}
    for place in missing.tolist():
        one = ids[place]
        if isinstance(one, str) or one == one // 1:
            rows[place] = by_spelling.get(spelling(one), UNKNOWN)
    return rows


def rank_in(sorted_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(N,) int32 place of each id in a list without repeats, -1 where it is not.

    Args:
        sorted_ids: (I,) int64 ascending, or objects (see `id_array`).
        ids: (N,) int64 or objects.
    """
    if sorted_ids.dtype == object or ids.dtype == object:
        return rows_of(ids.tolist(), {one: row for row, one in enumerate(sorted_ids.tolist())})
    if not len(sorted_ids):
        return np.full(len(ids), UNKNOWN, np.int32)
    first, last = int(sorted_ids[0]), int(sorted_ids[-1])
    if last - first < 4 * len(sorted_ids) + 1_000_000:  # a table is faster than a search
        table = np.full(last - first + 2, UNKNOWN, np.int32)
        table[sorted_ids - first] = np.arange(len(sorted_ids), dtype=np.int32)
        inside = (ids >= first) & (ids <= last)
        return table[np.where(inside, ids - first, last - first + 1)]
    places = np.minimum(np.searchsorted(sorted_ids, ids), len(sorted_ids) - 1)
    return np.where(sorted_ids[places] == ids, places, UNKNOWN).astype(np.int32)
