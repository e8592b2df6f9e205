"""JSON files as people have them: plain or gzipped, with a byte-order mark, with NaN."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import mmap
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

logger = logging.getLogger(__name__)

T = TypeVar("T")
Text = bytes | bytearray | memoryview

GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20  # bytes
_MOST_EXPANSION = 200  # times; annotations and results take some 5 to 30 times the space
_ALWAYS_ALLOWED = 64 << 20  # bytes
_MARK = b"\xef\xbb\xbf"


def require_file(path: str | Path, layout: str = "") -> Path:
    """Returns the path of a file that is there.

    Raises:
        FileNotFoundError: no such file; the message names it and the expected layout.
    """
    if not Path(path).is_file():
        hint = f"; expected layout: {layout}" if layout else ""
        raise FileNotFoundError(f"no such file: {path}{hint}")
    return Path(path)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Millions of new objects would set it off again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class GzipReader:
    """Unzips a file piece by piece, within what JSON can expand to.

    Args:
        path: for messages.
        file: at its beginning.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._zipped = path, gzip.GzipFile(fileobj=file, mode="rb")
        self._most = max(_MOST_EXPANSION * path.stat().st_size, _ALWAYS_ALLOWED)

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end.

        Raises:
            ValueError: a damaged file, or one that expands beyond all measure.
        """
        try:
            block = self._zipped.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{self._path} is a damaged gzip file: {error}") from error
        if self._zipped.tell() > self._most:
            raise ValueError(
                f"{self._path} expands to more than {_MOST_EXPANSION} times its size, as no file "
                "of annotations or results does: unzip it yourself if that is meant"
            )
        return block


@contextmanager
def _content(path: Path) -> Iterator[Text]:
    """The bytes of a file, unzipped if need be, without the mark; mapped where possible."""
    with open(path, "rb") as file:
        head = file.read(len(_MARK))
        if head.startswith(GZIP):
            file.seek(0)
            text, zipped = bytearray(), GzipReader(path, file)
            while block := zipped.read(_BLOCK):
                text += block
            yield text.removeprefix(_MARK)
            return
        if not head:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            with memoryview(mapped) as whole, whole[len(_MARK) * (head == _MARK) :] as text:
                yield text


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number, from 1 on, and content of each line that is not blank; plain or gzipped.

    Raises:
        ValueError: a damaged gzip file.
    """
    with open(path, "rb") as file:
        zipped = file.read(len(GZIP)) == GZIP
        file.seek(0)
        lines = _unzipped_lines(GzipReader(path, file)) if zipped else file
        for number, line in enumerate(lines, 1):
            text = line.removeprefix(_MARK).strip()
            if text:
                yield number, text


def _unzipped_lines(zipped: GzipReader) -> Iterator[bytes]:
    rest = b""
    while block := zipped.read(_BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


def parse_json(text: Text) -> Any:
    """Parses JSON; NaN and infinities are accepted.

    Raises:
        ValueError: no JSON; with the position.
    """
    return decoded(text, Any)


def decoded(text: Text, kind: type[T] | Any) -> T:
    """Parses JSON into a type of msgspec's; NaN and infinities are accepted.

    Raises:
        msgspec.ValidationError: another content.
        ValueError: no JSON; with the position.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        refused = error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        logger.debug("no strict JSON: %s", error)
        refused = None
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if refused is not None and "out of range" not in str(refused):  # such as 1e999
        raise refused
    try:
        loose = json.loads(bytes(text).decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return msgspec.convert(loose, kind)


def _read(path: Path, parse: Callable[[Text], T]) -> T:
    with without_garbage_collection(), _content(path) as text:
        try:
            return parse(text)
        except msgspec.ValidationError:
            raise
        except json.JSONDecodeError as error:
            cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
            hint = " (cut short?)" if cut else ""
            raise ValueError(f"{path} is not valid JSON{hint}: {error}") from error
        except ValueError as error:  # bad UTF-8 among them
            raise ValueError(f"{path} is not valid JSON: {error}") from error


def read_json(path: str | Path) -> Any:
    """Parses a JSON file.

    Raises:
        ValueError: the file is no JSON or is cut short; names the file and the place.
    """
    return _read(Path(path), parse_json)


def read_json_as(path: Path, kind: type[T], what: str) -> T:
    """Parses a JSON file into a msgspec struct, checking types on the way.

    Args:
        path: the file.
        kind: the struct; fields that it lacks are skipped.
        what: what the file should be, such as 'in the COCO format'.

    Raises:
        ValueError: no JSON, or another content; names the file and the place.
    """
    try:
        return _read(path, lambda text: decoded(text, kind))
    except msgspec.ValidationError as error:
        raise ValueError(f"{path} is not {what}: {error}") from error


def convert(content: Any, kind: type[T], source: str, what: str) -> T:
    """The same for content that is parsed already.

    Raises:
        ValueError: another content; names the source and the place.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{source} is not {what}: {error}") from error
