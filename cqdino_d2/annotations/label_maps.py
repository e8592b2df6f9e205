"""Label maps of ODVG: which name a label stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .json_file import read_json, require_file

_SHOWN = 5


def reading_of(name: str) -> str:
    """What tells a name from others when it is read: no case, underscores or separators."""
    for mark in "_.?":
        name = name.replace(mark, " ")
    return " ".join(name.split()).casefold()


def read_label_map(path: str | Path, layout: str = "") -> tuple[str, ...]:
    """The names of the labels 0..N-1.

    Args:
        path: {"0": name, ...}, or a list of the names.
        layout: what to say about the expected layout if the file is missing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another content, labels that are not 0..N-1, an empty name, or two labels
            whose names read the same, so that no prompt could tell them apart.
    """
    path = require_file(path, layout)
    content = read_json(path)
    if isinstance(content, list):
        content = {str(label): name for label, name in enumerate(content)}
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{path} is no label map, expected {{"0": "name", "1": ...}}')
    labels = _labels(content, path)
    names = tuple(content[labels[label]] for label in range(len(labels)))
    seen: dict[str, int] = {}
    for label, name in enumerate(names):
        read = reading_of(name) if isinstance(name, str) else ""
        if not read:
            raise ValueError(f"{path}: label {label} has the name {name!r}, expected words")
        first = seen.setdefault(read, label)
        if first != label:
            raise ValueError(
                f"{path}: the labels {first} ({names[first]!r}) and {label} ({name!r}) read the "
                "same: a prompt cannot tell them apart; give both one label"
            )
    return names


def _labels(content: dict[str, Any], path: Path) -> dict[int, str]:
    """The key of each label."""
    odd = [key for key in content if not (key.isascii() and key.isdigit())]
    if odd:
        raise ValueError(f"{path}: labels are whole numbers from 0 on, got {odd[:_SHOWN]}")
    labels = {int(key): key for key in content}
    missing = sorted(set(range(len(content))) - labels.keys())
    if missing:
        raise ValueError(
            f"{path}: {len(content)} labels must be 0..{len(content) - 1}, without gaps; "
            f"missing: {missing[:_SHOWN]}, beyond: "
            f"{[label for label in sorted(labels) if label >= len(content)][:_SHOWN]}"
        )
    return labels
