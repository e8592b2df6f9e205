"""GRIT (arXiv 2306.14824): a JSON object for each image, as img2dataset keeps them."""

from __future__ import annotations

import json
import math
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PHRASES = ("noun_chunks", "ref_exps")
_IMAGE = ".jpg"
_TAR_END = bytes(1024)
_LARGEST_SHARE = 1.001  # rounding


def grit_lines(source: Path, phrases: str, notes: list[str]) -> Iterator[dict[str, Any]]:
    """Lines of ODVG.

    Objects have 'caption', 'width', 'height' and 'noun_chunks' or 'ref_exps': lists of [first,
    last + 1 character, left, top, right, bottom as shares of the image, score]. Their image is
    beside them, of the same name with '.jpg'; that of a tar's member in a folder of the tar's name;
    that of a line in JSON lines is KEY.jpg.

    Args:
        source: one .json, JSON lines (.jsonl), a .tar, or a folder with any of these.
        phrases: 'noun_chunks' or 'ref_exps'.
        notes: gets what was left out.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: other phrases, or an object that is no JSON; the file is named.
    """
    if phrases not in PHRASES:
        raise ValueError(f"phrases are {' or '.join(PHRASES)}, got {phrases!r}")
    if not source.exists():
        raise FileNotFoundError(f"no such file or folder: {source}")
    return _lines(source, phrases, notes)


def _lines(source: Path, phrases: str, notes: list[str]) -> Iterator[dict[str, Any]]:
    skipped, bad = 0, []
    for name, where, text in _objects(source):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is not valid JSON (cut short?): {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{where} is no JSON object")
        sizes = [content.get(side) for side in ("width", "height")]
        caption = content.get("caption")
        known = all(type(side) is int and side > 0 for side in sizes) and isinstance(caption, str)
        if not known or not caption.strip() or content.get("status", "success") != "success":
            skipped += 1
            continue
        regions, problems = _regions(content, phrases, where)
        bad += problems
        if name is None:
            name = f"{content.get('key')}{_IMAGE}"
        yield {
            "filename": name,
            "height": sizes[1],
            "width": sizes[0],
            "grounding": {"caption": caption, "regions": regions},
        }
    if skipped:
        notes.append(f"{skipped} objects have no caption, no size or no image: left out")
    if bad:
        notes.append(f"{len(bad)} {phrases} cannot be used: left out; the first: {bad[0]}")


def _objects(source: Path) -> Iterator[tuple[str | None, str, str | bytes]]:
    """Image name (None: by its key), what to call it, and the JSON of each object."""
    inside = source if source.is_dir() else source.parent
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    for path in files:
        relative = path.relative_to(inside).with_suffix("").as_posix()
        if path.suffix == ".json":
            yield relative + _IMAGE, str(path), path.read_bytes()
        elif path.suffix == ".jsonl":
            with open(path, "rb") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield None, f"{path}, line {number}", line
        elif path.suffix == ".tar":
            yield from _members(path, relative)


def _members(path: Path, folder: str) -> Iterator[tuple[str, str, bytes]]:
    with open(path, "rb") as file:  # tarfile takes a header that is cut short for the end
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_TAR_END)))
        if size % 512 or file.read() != _TAR_END:
            raise ValueError(f"{path} is a damaged tar file: it lacks its end (cut short?)")
    try:
        with tarfile.open(path, "r|") as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".json"):
                    name = member.name.removeprefix("./").removesuffix(".json")
                    yield f"{folder}/{name}{_IMAGE}", f"{path}: {member.name}", _read(tar, member)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} is a damaged tar file: {error}") from error


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None  # it is a file
    return file.read()


def _regions(
    content: dict[str, Any], phrases: str, where: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """The regions, one for each phrase, and what is wrong with those that cannot be used."""
    width, height, caption = content["width"], content["height"], content["caption"]
    boxes: dict[tuple[int, int], list[list[float]]] = {}
    problems = []
    for given in content.get(phrases) or ():
        if not _is_phrase(given, caption):
            problems.append(f"{where}: {given!r}")
            continue
        span = int(given[0]), int(given[1])
        left, top, right, bottom = (min(max(share, 0.0), 1.0) for share in given[2:6])
        boxes.setdefault(span, []).append(
            [left * width, top * height, right * width, bottom * height]
        )
    regions = [
        {"bbox": boxes[span], "phrase": caption[slice(*span)], "tokens_positive": [list(span)]}
        for span in sorted(boxes)
    ]
    return regions, problems


def _is_phrase(given: Any, caption: str) -> bool:
    """Whether it is a span of the caption with words in it and a box inside the image."""
    if not isinstance(given, list) or len(given) < 6:
        return False
    if not all(type(one) in (int, float) and math.isfinite(one) for one in given):
        return False
    first, last, left, top, right, bottom = given[:6]
    spans = first == int(first) and last == int(last) and 0 <= first < last <= len(caption)
    inside = min(left, top) >= 1 - _LARGEST_SHARE and max(right, bottom) <= _LARGEST_SHARE
    words = spans and any(char.isalnum() for char in caption[int(first) : int(last)])
    return bool(words) and inside and left < right and top < bottom
