"""Named arrays in one file that is mapped into memory, not read.

Layout: 8 bytes that name the format, the length of a JSON header (uint64, little-endian), the
header, then the arrays one after the other, each at a multiple of 64 bytes. Processes that open
the same file share its pages.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .atomic_file import write_atomically

_MAGIC = b"CQDCOL01"
_ALIGNMENT = 64


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def write_column_file(
    path: Path, columns: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> None:
    """Writes arrays and what is to be known about them; several processes may do so at once.

    Args:
        path: the file; what stood there before is replaced in one step.
        columns: arrays of numbers or booleans, by name.
        facts: plain values that JSON can hold.

    Raises:
        OSError: the file cannot be written; nothing of it is left.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in columns.items()}
    table, end = [], 0
    for name, array in arrays.items():
        table.append((name, array.dtype.str, array.shape, _aligned(end)))
        end = _aligned(end) + array.nbytes
    header = json.dumps({"facts": facts, "columns": table, "bytes": end}).encode()
    start = _aligned(len(_MAGIC) + 8 + len(header))

    def write(file: IO[bytes]) -> None:
        file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        for array, (_, _, _, offset) in zip(arrays.values(), table, strict=True):
            file.write(bytes(start + offset - file.tell()))
            file.write(array.data.cast("B") if array.size else b"")

    write_atomically(path, write, several_writers=True)


def open_column_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Maps a file that `write_column_file` wrote.

    Returns:
        The arrays by name, read-only, and the facts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, or cut short.
    """
    with open(path, "rb") as file:
        magic, length = file.read(len(_MAGIC)), int.from_bytes(file.read(8), "little")
        if magic != _MAGIC or length > path.stat().st_size:
            raise ValueError(f"{path} is no column file of this version")
        header = json.loads(file.read(length))
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = _aligned(len(_MAGIC) + 8 + length)
    if len(content) < start + header["bytes"]:
        raise ValueError(f"{path} is cut short")
    columns = {
        name: np.frombuffer(
            content, dtype, count=int(np.prod(shape)), offset=start + offset
        ).reshape(shape)
        if np.prod(shape)
        else np.empty(shape, dtype)
        for name, dtype, shape, offset in header["columns"]
    }
    return columns, header["facts"]
