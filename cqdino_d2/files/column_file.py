"""Named arrays in one file that is mapped into memory, not read.

Layout: 8 bytes that name the format, the length of a JSON header and the CRC-32 of all else (both
uint64, little-endian), the header, then the arrays one after the other, each at a multiple of 64
bytes. Processes that open the same file share its pages. Nothing of a file is believed before its
checksum and its table of arrays have been checked.
"""

from __future__ import annotations

import json
import math
import mmap
import zlib
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from .atomic_file import write_atomically

_MAGIC = b"CQDCOL02"
_PREAMBLE = len(_MAGIC) + 8 + 8
_ALIGNMENT = 64
_BLOCK = 1 << 18  # bytes
_DTYPES = {"|b1", "|u1", "|i1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8"}
_MOST_AXES = 4


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


class _Summed:
    """Writes to a file and adds up what is written."""

    def __init__(self, file: IO[bytes], start: bytes) -> None:
        self.file, self.checksum = file, zlib.crc32(start)

    def write(self, content: bytes | memoryview) -> None:
        self.checksum = zlib.crc32(content, self.checksum)
        self.file.write(content)


def write_column_file(
    path: Path, columns: Mapping[str, np.ndarray], facts: Mapping[str, Any]
) -> None:
    """Writes arrays and what is to be known about them; several processes may do so at once.

    Args:
        path: the file; what stood there before is replaced in one step.
        columns: arrays of numbers or booleans, by name.
        facts: plain values that JSON can hold.

    Raises:
        FileWriteError: the file cannot be written; nothing of it is left.
        ValueError: an array of another type.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in columns.items()}
    table, end = [], 0
    for name, array in arrays.items():
        if array.dtype.str not in _DTYPES:
            raise ValueError(f"column {name!r} has the type {array.dtype}")
        table.append((name, array.dtype.str, array.shape, _aligned(end)))
        end = _aligned(end) + array.nbytes
    header = json.dumps({"facts": facts, "columns": table, "bytes": end}).encode()
    length = len(header).to_bytes(8, "little")
    start = _aligned(_PREAMBLE + len(header))

    def write(file: IO[bytes]) -> None:
        file.write(_MAGIC + length + bytes(8))
        summed = _Summed(file, length)
        summed.write(header)
        for array, (_, _, _, offset) in zip(arrays.values(), table, strict=True):
            summed.write(bytes(start + offset - file.tell()))
            summed.write(array.data.cast("B") if array.size else b"")
        summed.write(bytes(start + end - file.tell()))
        file.seek(len(_MAGIC) + 8)
        file.write(summed.checksum.to_bytes(8, "little"))

    write_atomically(path, write)


def open_column_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Maps a file that `write_column_file` wrote.

    Returns:
        The arrays by name, read-only, and the facts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, cut short, or not as it was written.
    """
    with open(path, "rb", buffering=0) as file:
        preamble = file.read(_PREAMBLE)
        if len(preamble) < _PREAMBLE or not preamble.startswith(_MAGIC):
            raise ValueError(f"{path} is no column file of this version")
        length = preamble[8:16]
        if _checksum(file, length) != int.from_bytes(preamble[16:], "little"):
            raise ValueError(f"{path} is cut short or damaged: its checksum differs")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _arrays(content, int.from_bytes(length, "little"))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} has a header that does not fit: {error!r}") from error


def _checksum(file: FileIO, start: bytes) -> int:
    """Of the rest of the file; read, as mapped pages would count as this process's memory."""
    checksum, block = zlib.crc32(start), bytearray(_BLOCK)
    with memoryview(block) as view:
        while count := file.readinto(view):
            checksum = zlib.crc32(view[:count], checksum)
    return checksum


def _arrays(content: mmap.mmap, length: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    header = json.loads(content[_PREAMBLE : _PREAMBLE + length])
    start, facts = _aligned(_PREAMBLE + length), header["facts"]
    if not isinstance(facts, dict) or len(content) != start + header["bytes"]:
        raise ValueError("another size than it says, or no facts")
    columns = {}
    for name, dtype, shape, offset in header["columns"]:
        if not isinstance(name, str) or dtype not in _DTYPES or len(shape) > _MOST_AXES:
            raise ValueError(f"no column: {name!r}, {dtype!r}")
        if any(type(size) is not int or size < 0 for size in (*shape, offset)):
            raise ValueError(f"sizes of column {name!r}: {shape!r} at {offset!r}")
        count = math.prod(shape)
        if offset % _ALIGNMENT or offset + count * np.dtype(dtype).itemsize > header["bytes"]:
            raise ValueError(f"column {name!r} lies outside the file")
        if count:
            flat = np.frombuffer(content, dtype, count=count, offset=start + offset)
            columns[name] = flat.reshape(shape)
        else:
            columns[name] = np.empty(shape, dtype)
    return columns, facts
