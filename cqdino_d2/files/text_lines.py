"""Text files with an entry per line."""

from __future__ import annotations

import json
from pathlib import Path


def read_text(path: Path) -> str:
    """A text in UTF-8, without its byte-order mark and with ``\\n`` between lines.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file in UTF-8: {error}") from error
    if "\0" in text:
        raise ValueError(f"{path} is no text file in UTF-8: it has NUL characters (UTF-16?)")
    return text


def read_lines(path: Path) -> list[str]:
    """The lines without the white space around them; those that are empty at the end are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no text in UTF-8, or JSON, which has no entry per line.
    """
    text = read_text(path)
    if is_json(text):
        raise ValueError(f"{path} is JSON, expected a text with an entry per line")
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_rows(path: Path) -> list[str]:
    """The lines as they stand, also empty ones, for files in which a line's number counts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no text in UTF-8.
    """
    return read_text(path).removesuffix("\n").split("\n")


def is_json(text: str) -> bool:
    """Whether a text is a JSON object or list."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
