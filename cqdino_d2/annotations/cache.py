"""Annotation files as columns, parsed once and mapped into memory from then on.

The columns are in a file next to the annotation file, or in a cache folder where that folder cannot
be written (``CQDINO_D2_CACHE``, else ``~/.cache/cqdino_d2``; if the variable is set, always there).
A cache belongs to the content of its annotation file: it is used while name, size, times and inode
are those it was made from, else while the SHA-256 is the same, else it is rebuilt. So is one that
its checksum or its columns show to be damaged. A program that only scores a file uses a cache that
is there and writes none.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from ..files.column_file import write_column_file
from ..files.locks import can_lock, lock_file
from .coco_format import read_coco_format
from .columns import FORMAT, Annotations
from .json_file import require_file

logger = logging.getLogger(__name__)

_SUFFIX = ".columns"
_YOUNG = 2.0  # seconds; a file changed this recently may change again without a new time stamp


class Columns(Protocol):
    """A file as columns."""

    facts: Mapping[str, Any]


T = TypeVar("T", bound=Columns)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of(texts: Sequence[str]) -> str:
    """Of what columns depend on besides their file, for the key of a `Form`."""
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Origin:
    """What columns are made from, by default a file.

    Attributes:
        require: (path, layout) -> the path; raises FileNotFoundError if there is no such thing.
        stamp: numbers by which a change shows at a look; the second and third are the times of
            the last change in nanoseconds.
        sha256: of its content.
    """

    require: Callable[[str | Path, str], Path] = require_file
    stamp: Callable[[Path], list[int]] = _stamp
    sha256: Callable[[Path], str] = _sha256


@dataclass(frozen=True)
class Form(Generic[T]):
    """What a file is read as.

    Attributes:
        name: the 'format' that its caches bear.
        read: file -> columns and facts.
        of_columns: makes what callers get of columns and facts.
        of_cache: maps a cache; raises ValueError if it is damaged.
        key: what else the columns depend on, such as the content of a label map.
        origin: what it is instead of a file.
    """

    name: str
    read: Callable[[Path], tuple[dict[str, np.ndarray], dict[str, Any]]]
    of_columns: Callable[[dict[str, np.ndarray], dict[str, Any]], T]
    of_cache: Callable[[Path], T]
    key: str = ""
    origin: Origin = Origin()


def _read_coco(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return read_coco_format(path)


COCO = Form(FORMAT, _read_coco, Annotations, Annotations.of_cache)

_not_written: dict[Path, Columns] = {}  # where no cache could be written


def cache_places(json_file: Path) -> list[Path]:
    """Where the cache of an annotation file may lie, in the order in which to look."""
    path = json_file.absolute()
    named = f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}-{path.name}{_SUFFIX}"
    folder = os.environ.get("CQDINO_D2_CACHE")
    if folder:
        return [Path(folder).expanduser() / named]
    return [path.with_name(path.name + _SUFFIX), Path.home() / ".cache/cqdino_d2" / named]


def _why_stale(facts: Mapping[str, Any], json_file: Path, form: Form) -> str:
    """Why these columns are not those of the file as it is now; empty if they are."""
    if facts["format"] != form.name or facts.get("key", "") != form.key:
        return "was read in another way"
    if facts["name"] != json_file.name:
        return f"is of a file named {facts['name']!r}"
    origin = form.origin
    if facts["stamp"] != origin.stamp(json_file) and facts["sha256"] != origin.sha256(json_file):
        return "is of an annotation file with another content"
    return ""


def _find(json_file: Path, form: Form[T]) -> tuple[T | None, list[str]]:
    """The columns if they are there already, else what is wrong with the caches that are."""
    held = _not_written.get(json_file.absolute())
    if held is not None and not _why_stale(held.facts, json_file, form):
        return held, []
    reasons = []
    for place in cache_places(json_file):
        try:
            annotations = form.of_cache(place)
            reason = _why_stale(annotations.facts, json_file, form)
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            reason = f"cannot be used ({error})"
        if not reason:
            return annotations, []
        reasons.append(f"the cache {place} {reason}")
    return None, reasons


@contextmanager
def _one_builder(json_file: Path) -> Iterator[None]:
    """Lets one process at a time build; where files cannot be locked each builds for itself."""
    if not can_lock():
        yield
        return
    file = os.open(json_file, os.O_RDONLY)  # which opens folders, too
    try:
        try:
            lock_file(file)
        except OSError as error:
            logger.debug("%s cannot be locked: %s", json_file, error)
        yield
    finally:
        os.close(file)


def _write(json_file: Path, columns: dict[str, np.ndarray], facts: dict[str, Any]) -> Path | None:
    failures = []
    for place in cache_places(json_file):
        try:
            if place.parent != json_file.absolute().parent:
                place.parent.mkdir(parents=True, exist_ok=True)
            write_column_file(place, columns, facts)
        except OSError as error:
            failures.append(str(error))
            continue
        return place
    logger.warning(
        "%s: its columns could not be kept (%s); every process will parse the file anew. Set "
        "CQDINO_D2_CACHE to a folder that can be written",
        json_file,
        "; ".join(failures),
    )
    return None


def _build(json_file: Path, form: Form[T]) -> T:
    stamp, sha256 = form.origin.stamp(json_file), form.origin.sha256(json_file)
    columns, facts = form.read(json_file)
    if form.origin.stamp(json_file) != stamp:
        raise ValueError(f"{json_file} was changed while it was being read")
    young = time.time() - max(stamp[1], stamp[2]) / 1e9 < _YOUNG
    facts |= {"format": form.name, "key": form.key}
    facts |= {"stamp": None if young else stamp, "sha256": sha256}
    facts["name"] = json_file.name
    place = _write(json_file, columns, facts)
    if place is None:
        held = form.of_columns(columns, facts)
        _not_written[json_file.absolute()] = held
        return held
    return form.of_cache(place)


def load_annotations(json_file: str | Path, layout: str = "", *, keep: bool = True) -> Annotations:
    """The columns of an annotation file in the COCO format: see `load_columns`."""
    return load_columns(json_file, COCO, layout, keep=keep)


def load_columns(json_file: str | Path, form: Form[T], layout: str = "", *, keep: bool = True) -> T:
    """The columns of an annotation file, from its cache or parsed and then cached.

    Several processes may ask at once: one parses, the others wait for its cache.

    Args:
        json_file: annotation file.
        form: what it is read as.
        layout: what to say about the expected layout if it is missing.
        keep: whether a cache is written where there is none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what the form's reader refuses, such as `coco_format.read_coco_format`.
    """
    path = form.origin.require(json_file, layout)
    found, _ = _find(path, form)
    if found is not None:
        return found
    if not keep:
        return form.of_columns(*form.read(path))
    with _one_builder(path):
        found, reasons = _find(path, form)
        if found is not None:
            return found
        for reason in reasons:
            logger.warning("%s: it is rebuilt", reason)
        return _build(path, form)
