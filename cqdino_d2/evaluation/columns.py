"""Detections and ground truth as columns: compact to keep, to gather and to evaluate.

Index spaces: ``image`` is the rank of an image's id among the annotation file's image ids,
``category`` the rank of a category's id among its category ids, both ascending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from ..structures import RaggedIndex


@dataclass(frozen=True)
class Detections:
    """N detections, in the order of their file.

    Attributes:
        images: (N,) int32.
        categories: (N,) int32, -1 for a category that the annotation file does not have.
        boxes_xywh_abs: (N, 4) float64 as files have them, or float32 as models give them.
        scores: (N,) of the boxes' type, finite.
    """

    images: np.ndarray
    categories: np.ndarray
    boxes_xywh_abs: np.ndarray
    scores: np.ndarray

    @classmethod
    def empty(cls, dtype: type[np.floating] = np.float64) -> Detections:
        """No detection."""
        nothing = np.empty(0, np.int32)
        return cls(nothing, nothing, np.empty((0, 4), dtype), np.empty(0, dtype))

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """Joins any number of parts, in their order."""
        if not parts:
            return cls.empty()
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: np.ndarray) -> Detections:
        """Some of the detections: row numbers or a mask."""
        return Detections(*(getattr(self, field.name)[rows] for field in fields(self)))

    def areas(self) -> np.ndarray:
        """(N,) float64 width x height; a negative width or height gives what it gives."""
        boxes = self.boxes_xywh_abs
        return boxes[:, 2].astype(np.float64) * boxes[:, 3].astype(np.float64)


@dataclass(frozen=True)
class GroundTruth:
    """G boxes of I images and K categories, ordered by image, then as in the file.

    Attributes:
        image_ids: (I,) ascending int64, or objects where one is a text or larger: see `ids`.
        category_ids: (K,) the same.
        names: of the K categories.
        images: (G,) int32.
        categories: (G,) int32.
        boxes_xywh_abs: (G, 4) float64.
        areas: (G,) float64, the file's (of a mask, where it has one).
        crowd: (G,) bool, ``iscrowd``.
        ignore: (G,) bool, ``ignore``: LVIS uses it, COCO does not.
        zero_id: (G,) bool, annotations with the id 0, which the originals take for no match.
        negatives: LVIS: for each image the categories that are verified to be absent, or None.
        not_exhaustive: LVIS: for each image the categories not annotated everywhere, or None.
        frequency: for each category 'r', 'c' or 'f', or None.
        novel: (K,) bool, or None.
        annotated: whether there are annotations at all; a list of test images has none.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    names: tuple[str, ...]
    images: np.ndarray
    categories: np.ndarray
    boxes_xywh_abs: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    zero_id: np.ndarray
    negatives: RaggedIndex | None = None
    not_exhaustive: RaggedIndex | None = None
    frequency: tuple[str, ...] | None = None
    novel: np.ndarray | None = None
    annotated: bool = True

    def __len__(self) -> int:
        return len(self.areas)

    def take_boxes(self, rows: np.ndarray, *, images: np.ndarray | None = None) -> GroundTruth:
        """The same images and categories with some of the boxes.

        Args:
            rows: row numbers or a mask.
            images: the images of these boxes, where they are others than those of the rows.
        """
        per_box = ("categories", "boxes_xywh_abs", "areas", "crowd", "ignore", "zero_id")
        taken = {name: getattr(self, name)[rows] for name in per_box}
        return replace(self, images=self.images[rows] if images is None else images, **taken)
