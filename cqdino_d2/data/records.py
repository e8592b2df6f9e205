"""Records: Detectron2's list of dicts as it looks, columns as it is kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from detectron2.structures import BoxMode
from torch.utils.data import Dataset

from ..annotations.coco_format import IMAGE_LISTS
from ..annotations.columns import Annotations
from ..files import inside
from ..structures import RaggedIndex
from .image_sizes import complete_sizes

_NAMED = 5  # problems that an error names


@dataclass(frozen=True)
class _Part:
    """Some images of one annotation file.

    Attributes:
        annotations: the file's columns.
        image_root: folder of its images.
        sizes: (I, 2) int32 height and width of all images of the file.
        rows: (n,) which images of the file, in their order.
        with_crowd: whether crowd boxes are among the boxes.
        vocab_id_of: (V of the file,) its vocab_ids in another vocabulary; None leaves them.
        image_level: whether the images have a label and no box.
    """

    annotations: Annotations
    image_root: str
    sizes: np.ndarray
    rows: np.ndarray
    with_crowd: bool = True
    vocab_id_of: np.ndarray | None = None
    image_level: bool = False

    def record(self, position: int) -> dict[str, Any]:
        annotations, columns = self.annotations, self.annotations.columns
        row = int(self.rows[position])
        height, width = self.sizes[row].tolist()
        record = {
            "file_name": os.path.join(
                self.image_root, os.path.normpath(annotations.text("file_name", row))
            ),
            "image_id": annotations.image_id(row),
            "height": height,
            "width": width,
        }
        if self.image_level:
            record["image_level"] = True
        for name in IMAGE_LISTS:
            ranks = annotations.image_list(name)
            if ranks is not None:
                record[name] = [annotations.category_ids[rank] for rank in ranks[row].tolist()]
        start, end = columns["box_offsets"][row : row + 2].tolist()
        crowd = columns["is_crowd"][start:end].tolist()
        vocab_ids = columns["vocab_ids"][start:end]
        if self.vocab_id_of is not None:
            vocab_ids = self.vocab_id_of[vocab_ids]
        boxes = columns["boxes_xywh"][start:end].tolist()
        record["annotations"] = [
            {
                "bbox": box,
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": vocab_id,
                "iscrowd": int(is_crowd),
            }
            for box, vocab_id, is_crowd in zip(boxes, vocab_ids.tolist(), crowd, strict=True)
            if self.with_crowd or not is_crowd
        ]
        return record

    def categories(self) -> RaggedIndex:
        """The vocab_ids of the boxes of each of the n images."""
        columns = self.annotations.columns
        vocab_ids, offsets = columns["vocab_ids"], columns["box_offsets"]
        if self.vocab_id_of is not None:
            vocab_ids = self.vocab_id_of[vocab_ids]
        if not self.with_crowd:
            kept = ~columns["is_crowd"]
            before = np.concatenate([[0], np.cumsum(kept)])
            vocab_ids, offsets = vocab_ids[kept], before[offsets]
        return RaggedIndex(offsets, vocab_ids).take(self.rows)


def _check_file_names(annotations: Annotations, image_root: str) -> None:
    """Whether all images lie below their folder: see `inside`."""
    problems = []
    for row in _suspicious_rows(annotations):
        try:
            inside(image_root, annotations.text("file_name", row))
        except ValueError as error:
            problems.append(f"image {annotations.image_id(row)}: {error}")
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(annotations)} images lie outside their folder: "
            f"{'; '.join(problems[:_NAMED])}. Where that is meant, register the dataset with "
            "outside_root=True"
        )


def _suspicious_rows(annotations: Annotations) -> list[int]:
    """The images whose file names could lead anywhere else; V3Det's 183,354 are looked at at once.

    These are the names that are empty or begin with '/' or '.', and those with '/.' or a NUL.
    """
    content = annotations.columns["file_name_bytes"]
    offsets = annotations.columns["file_name_offsets"]
    starts, ends = offsets[:-1], offsets[1:]
    marks = np.isin(content, np.frombuffer(b"/.\0", np.uint8))
    first = np.zeros(len(content) + 1, dtype=bool)
    first[starts] = True
    slash = np.concatenate([[False], content[:-1] == ord("/")]) if len(content) else marks
    suspicious = marks & (first[:-1] | (content == 0) | ((content == ord(".")) & slash))
    places = np.flatnonzero(suspicious)
    rows = np.searchsorted(offsets, places, side="right") - 1
    return np.union1d(rows, np.flatnonzero(starts == ends)).tolist()


class Records(Sequence[Mapping[str, Any]], Dataset):
    """Images with their boxes, from one or several annotation files.

    An item is the dict that Detectron2's loaders expect, made when it is asked for: 'file_name',
    'image_id', 'height', 'width', 'annotations' with 'bbox' (XYWH_ABS), 'bbox_mode',
    'category_id' (the ``vocab_id``) and 'iscrowd'; LVIS' 'neg_category_ids' and
    'not_exhaustive_category_ids' (``dataset_id``) where the file has them; 'image_level' (True)
    where the image has a label and no box, so that its one box is the whole image. A slice is a
    `Records` again. Worker processes share the columns; pickling sends only paths and row numbers.

    It is a `torch.utils.data.Dataset`, so Detectron2's `get_detection_dataset_dicts` and
    `build_detection_train_loader` leave it as it is. The former drops no images without boxes from
    a `Dataset`; `with_boxes` does.

    Args:
        parts: what it consists of, in their order.
    """

    def __init__(self, parts: Iterable[_Part]) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part.rows) for part in self._parts)])

    @classmethod
    def of_file(
        cls,
        annotations: Annotations,
        image_root: str,
        *,
        outside_root: bool = False,
        image_level: bool = False,
    ) -> Records:
        """All images of an annotation file.

        Args:
            annotations: the file's columns.
            image_root: folder that the file names are relative to.
            outside_root: whether file names may be absolute or lead out of the folder.
            image_level: whether the images have a label and no box.

        Raises:
            ValueError: file names that may not, or images whose size neither the file nor the
                image tells; some are named.
        """
        if not outside_root:
            _check_file_names(annotations, image_root)
        rows = np.arange(len(annotations), dtype=np.int32)
        sizes = complete_sizes(annotations, str(image_root))
        return cls([_Part(annotations, str(image_root), sizes, rows, image_level=image_level)])

    @classmethod
    def concatenate(cls, records: Iterable[Records]) -> Records:
        """One after the other; their vocab_ids must mean the same."""
        return cls(part for one in records for part in one._parts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | Records:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        position = int(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"record {position} of {len(self)}")
        position %= len(self)
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._parts[part].record(position - int(self._starts[part]))

    def select(self, positions: np.ndarray) -> Records:
        """Some of the records, in the given order.

        Args:
            positions: (n,) indices 0..len-1.
        """
        if not len(positions):
            return Records(())
        part_of = np.searchsorted(self._starts, positions, side="right") - 1
        cuts = np.flatnonzero(np.diff(part_of)) + 1  # between runs of one part
        parts = []
        for index, run in zip(part_of[[0, *cuts]], np.split(positions, cuts), strict=True):
            part = self._parts[index]
            parts.append(replace(part, rows=part.rows[run - self._starts[index]]))
        return Records(parts)

    def without_crowd(self) -> Records:
        """The same images without their crowd boxes."""
        return Records(replace(part, with_crowd=False) for part in self._parts)

    def with_boxes(self) -> Records:
        """Only the images that have boxes."""
        return self.select(np.flatnonzero(np.diff(self.categories().offsets)))

    def in_vocabulary(self, vocab_id_of: np.ndarray) -> Records:
        """The same records in another vocabulary.

        Args:
            vocab_id_of: (V,) the new ``vocab_id`` of each present one.
        """
        return Records(
            replace(
                part,
                vocab_id_of=vocab_id_of
                if part.vocab_id_of is None
                else vocab_id_of[part.vocab_id_of],
            )
            for part in self._parts
        )

    def categories(self) -> RaggedIndex:
        """The vocab_ids of the boxes of each record."""
        return RaggedIndex.concatenate([part.categories() for part in self._parts])

    def sizes(self) -> np.ndarray:
        """(len, 2) int32 height and width of each record's image."""
        parts = [part.sizes[part.rows] for part in self._parts]
        return np.concatenate([np.empty((0, 2), np.int32), *parts])


@runtime_checkable
class HasCategories(Protocol):
    """Records that know the categories of all their boxes without being made."""

    def categories(self) -> RaggedIndex:
        """The vocab_ids of the boxes of each record."""


@runtime_checkable
class HasSizes(Protocol):
    """Records that know the sizes of all images without being made."""

    def sizes(self) -> np.ndarray:
        """(len, 2) int32 height and width of each record's image; 0 where they are not known."""


def categories_of(records: Sequence[Mapping[str, Any]]) -> RaggedIndex:
    """The vocab_ids of the boxes of each record, of `HasCategories` or of any sequence of dicts."""
    if isinstance(records, HasCategories):
        return records.categories()
    rows = (records[index] for index in range(len(records)))
    return RaggedIndex.from_rows(
        [[a["category_id"] for a in r.get("annotations", ())] for r in rows]
    )


def sizes_of(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(len, 2) height and width, of `HasSizes` or of any sequence of dicts."""
    if isinstance(records, HasSizes):
        return records.sizes()
    rows = (records[index] for index in range(len(records)))
    return np.asarray([(row["height"], row["width"]) for row in rows]).reshape(-1, 2)
