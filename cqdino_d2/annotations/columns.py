"""An annotation file as columns: what they hold, and that they fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..files.column_file import open_column_file
from ..structures import RaggedIndex
from .coco_format import IMAGE_LISTS
from .ids import Id, id_array

FORMAT = "cqdino_d2.annotations.v2"
_PER_BOX = {
    "given": {
        "given_boxes": ("<f8", 4),
        "given_areas": ("<f8",),
        "given_categories": ("<i4",),
        "given_flags": ("|u1",),
    },
    "box": {"boxes_xywh": ("<f4", 4), "vocab_ids": ("<i4",), "is_crowd": ("|b1",)},
}
_CATEGORY_COLUMNS = ("given_categories", "vocab_ids", *(f"{name}_values" for name in IMAGE_LISTS))


@dataclass(frozen=True)
class Annotations:
    """An annotation file as columns (`coco_format.read_coco_format` names them).

    Pickled, it is a path: another process maps the same file.

    Attributes:
        columns: arrays by name.
        facts: those of `read_coco_format` and, of a cache, of the annotation file it is of.
        cache_file: where the columns lie; None if they are in memory only.
    """

    columns: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    cache_file: Path | None = None

    @classmethod
    def of_cache(cls, cache_file: Path) -> Annotations:
        """Maps a cache.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is damaged, of another version, or its columns do not fit each other.
        """
        columns, facts = open_column_file(cache_file)
        if facts.get("format") != FORMAT:
            raise ValueError(f"has the format {facts.get('format')!r}, not {FORMAT!r}")
        try:
            _check(columns, facts)
        except (KeyError, TypeError, IndexError, msgspec.DecodeError) as error:
            raise ValueError(f"has other columns than it should: {error!r}") from error
        return cls(columns, facts, cache_file)

    def __len__(self) -> int:
        return len(self.columns["sizes"])

    def __reduce__(self) -> tuple[Any, ...]:
        if self.cache_file is None:
            return Annotations, (dict(self.columns), dict(self.facts))
        return reopened, (Annotations, self.cache_file, self.facts["sha256"])

    @property
    def has_categories(self) -> bool:
        """False for some lists of images without annotations."""
        return len(self.columns["categories"]) > len(b"[]")

    def categories(self) -> list[dict[str, Any]]:
        """The category objects with all their fields, by ascending id."""
        return msgspec.json.decode(self.columns["categories"].data)

    @cached_property
    def category_ids(self) -> tuple[Id, ...]:
        """The ids of the categories, ascending."""
        return tuple(row["id"] for row in self.categories())

    def text(self, name: str, row: int) -> str:
        """One string of a text column."""
        start, end = self.columns[f"{name}_offsets"][row : row + 2].tolist()
        return self.columns[f"{name}_bytes"][start:end].tobytes().decode("utf-8", "surrogatepass")

    def image_id(self, row: int) -> Id:
        """The id of an image, as the file has it."""
        if "image_ids" in self.columns:
            return int(self.columns["image_ids"][row])
        return msgspec.json.decode(self.text("image_id", row))

    def image_ids(self) -> np.ndarray:
        """(I,) ids of all images, see `ids.id_array`."""
        if "image_ids" in self.columns:
            return self.columns["image_ids"]
        return id_array([self.image_id(row) for row in range(len(self))])

    def image_list(self, name: str) -> RaggedIndex | None:
        """One of LVIS' lists as vocab_ids; None where no image has it."""
        if f"{name}_offsets" not in self.columns:
            return None
        return RaggedIndex(self.columns[f"{name}_offsets"], self.columns[f"{name}_values"])


def reopened(kind: type[Any], cache_file: Path, sha256: str) -> Any:
    """Maps a cache in another process.

    Args:
        kind: class with an ``of_cache``.
        cache_file: the cache.
        sha256: of the annotation file that it was of.

    Raises:
        ValueError: it was replaced.
    """
    found = kind.of_cache(cache_file)
    if found.facts.get("sha256") != sha256:
        raise ValueError(f"{cache_file} was replaced while a process was being started")
    return found


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"has other columns than it should: {what}")


def _check_offsets(offsets: np.ndarray, rows: int, values: int, name: str) -> None:
    _require(offsets.dtype == np.int64 and offsets.shape == (rows + 1,), name)
    _require(bool(offsets[0] == 0 and offsets[-1] == values), name)
    _require(bool((offsets[1:] >= offsets[:-1]).all()), name)


def _check_column(column: np.ndarray, dtype: str, shape: Sequence[int], name: str) -> None:
    _require(column.dtype == np.dtype(dtype) and column.shape == tuple(shape), name)


def _check(columns: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Raises ValueError or KeyError unless the columns are those of an annotation file."""
    sizes = columns["sizes"]
    images = len(sizes)
    _check_column(sizes, "<i4", (images, 2), "sizes")
    texts = ["file_name"]
    if "image_ids" in columns:
        _check_column(columns["image_ids"], "<i8", (images,), "image_ids")
    else:
        texts.append("image_id")
    for name in texts:
        text = columns[f"{name}_bytes"]
        _check_column(text, "|u1", (len(text),), name)
        _check_offsets(columns[f"{name}_offsets"], images, len(text), name)
    for kind, shapes in _PER_BOX.items():
        count = len(columns[next(iter(shapes))])
        _check_offsets(columns[f"{kind}_offsets"], images, count, kind)
        for name, (dtype, *axes) in shapes.items():
            _check_column(columns[name], dtype, (count, *axes), name)
    for name in IMAGE_LISTS:
        if f"{name}_offsets" in columns:
            values = columns[f"{name}_values"]
            _check_column(values, "<i4", (len(values),), name)
            _check_offsets(columns[f"{name}_offsets"], images, len(values), name)
    _check_column(columns["categories"], "|u1", (len(columns["categories"]),), "categories")
    categories = msgspec.json.decode(columns["categories"].data, type=list[dict[str, Any]])
    for name in _CATEGORY_COLUMNS:
        ranks = columns.get(name)
        if ranks is not None and len(ranks):
            inside = 0 <= int(ranks.min()) and int(ranks.max()) < len(categories)
            _require(inside, name)
    _require(all(isinstance(row["id"], int | str) for row in categories), "category ids")
    for name, kind in _FACTS.items():
        _require(isinstance(facts[name], kind), f"fact {name}")


_FACTS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "stamp": (list, type(None)),
    "sha256": str,
    "annotations": int,
    "annotated": bool,
    "events": dict,
    "complete_lists": list,
    "unnamed_images": list,
    "unsized_images": int,
    "unlisted_images": list,
    "unlisted_categories": list,
    "repeated_ids": int,
    "zero_ids": int,
    "endless_boxes": list,
}
