"""What is matched by which rules, and the curves that come of it.

Every protocol (COCO, LVIS, V3Det) turns its annotation file into a `Problem`; the core matches it
(`Outcomes`) and accumulates that (`Curves`), with C++ (`compiled`) or with NumPy (`reference`), bit
for bit the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..structures import RaggedIndex
from .columns import Detections

NO_LIMIT = 2**31 - 1
AREA_NAMES = ("all", "small", "medium", "large")

# What becomes of a detection at the first IoU threshold over all areas (`Outcomes.matches`);
# a number from 0 on is the row of the ground truth that it was matched to.
UNMATCHED, IGNORED, NOT_COUNTED = -1, -2, -3


def _iou_thresholds() -> np.ndarray:
    return np.linspace(0.5, 0.95, 10)


def _recall_thresholds() -> np.ndarray:
    return np.linspace(0.0, 1.0, 101)


def _area_ranges() -> np.ndarray:
    return np.array([[0, 1e10], [0, 32.0**2], [32.0**2, 96.0**2], [96.0**2, 1e10]])


@dataclass(frozen=True)
class Rules:
    """The axes of the curves.

    Attributes:
        max_dets: (M) ascending; the best N detections of an (image, category) count, for each N.
        iou_thresholds: (T,) ascending, at most 32.
        recall_thresholds: (R,) ascending.
        area_ranges: (A, 2) in square pixels, both ends included.
    """

    max_dets: tuple[int, ...]
    iou_thresholds: np.ndarray = field(default_factory=_iou_thresholds)
    recall_thresholds: np.ndarray = field(default_factory=_recall_thresholds)
    area_ranges: np.ndarray = field(default_factory=_area_ranges)

    def __post_init__(self) -> None:
        if not self.max_dets or min(self.max_dets) < 1:
            raise ValueError(f"max_dets must be positive numbers, got {self.max_dets}")
        if list(self.max_dets) != sorted(set(self.max_dets)):
            raise ValueError(f"max_dets must ascend, got {self.max_dets}")


@dataclass(frozen=True)
class Problem:
    """Detections and boxes to match, image by image and category by category.

    Attributes:
        num_categories: K.
        detections: those of unknown category (-1) are left out.
        exempt: (N,) bool, detections that are ignored where they are not matched, or None.
        gt_images: (G,) int32, ascending.
        gt_categories: (G,) int32.
        gt_boxes_xywh_abs: (G, 4) float64.
        gt_areas: (G,) float64.
        gt_ignored: (G,) bool, boxes that need not be found and that excuse what finds them.
        gt_crowd: (G,) bool, boxes that match any number of detections, with an IoU over the
            detection's area alone.
        gt_zero_id: (G,) bool, boxes that are used up by a detection without giving a hit.
        ancestors: for each category those whose boxes are ignored boxes of it too, or None.
        rules: the axes.
    """

    num_categories: int
    detections: Detections
    exempt: np.ndarray | None
    gt_images: np.ndarray
    gt_categories: np.ndarray
    gt_boxes_xywh_abs: np.ndarray
    gt_areas: np.ndarray
    gt_ignored: np.ndarray
    gt_crowd: np.ndarray
    gt_zero_id: np.ndarray
    ancestors: RaggedIndex | None
    rules: Rules


@dataclass(frozen=True)
class Outcomes:
    """What became of each detection: all that the curves need, at 16 bytes a detection.

    Ordered by category, image and score, best first. The detections themselves can be forgotten
    then.

    Attributes:
        starts: (K,) int64, where each category begins.
        ends: (K,) int64, where it ends; between an end and the next start nothing counts.
        scores: (N,) float64.
        ranks: (N,) int32 among the detections of the same image and category, best first.
        codes: (N,) int32 rows of ``masks``.
        masks: (C, A, 2) int32: bits, one per IoU threshold, of a hit and of being ignored. The
            first 2 ** A rows are those of detections that were matched to nothing: ignored at
            every threshold in the area ranges that are the bits of the row's number.
        num_boxes: (K, A) int64 boxes to find.
        matches: (N,) int64, for each detection of the problem what it was matched to at the first
            threshold over all areas (see above), or None.
    """

    starts: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    codes: np.ndarray
    masks: np.ndarray
    num_boxes: np.ndarray
    matches: np.ndarray | None


@dataclass(frozen=True)
class Curves:
    """Precision and recall of every category; -1 where no ground truth is.

    Attributes:
        precision: (K, A, M, T, R) float64; M is 1, for the largest limit of detections, unless
            all were asked for.
        recall: (K, A, M, T) float64, the highest that is reached; at all limits.
        scores: (K, A, M, T, R) float64, the score at which each recall is reached, or None; with
            the limits of the precision.
    """

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray | None

    def in_coco_layout(self) -> dict[str, np.ndarray]:
        """Views: precision and scores (T, R, K, A, M), recall (T, K, A, M)."""
        views = {
            "precision": self.precision.transpose(3, 4, 0, 1, 2),
            "recall": self.recall.transpose(3, 0, 1, 2),
        }
        if self.scores is not None:
            views["scores"] = self.scores.transpose(3, 4, 0, 1, 2)
        return views
