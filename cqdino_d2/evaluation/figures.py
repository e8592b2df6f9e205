"""Single figures from the curves, under the names that people know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..structures import CategoryHierarchy
from .columns import Detections, GroundTruth
from .problem import AREA_NAMES, NO_LIMIT, Curves, Problem, Rules

NOT_MEASURED = -1.0
_SIZES = {"small": "s", "medium": "m", "large": "l"}
_IMAGE_BANDS = ((1, 3), (4, 10), (11, 30), (31, None))


def mean_of_measured(values: np.ndarray) -> float:
    """The mean of what is not -1, in the order of the originals' sum; -1 if all is."""
    measured = values[values > -1]
    return float(np.mean(measured)) if measured.size else NOT_MEASURED


def percent(share: float) -> float:
    """0..100; -1 stays -1."""
    return 100 * share if share > -1 else NOT_MEASURED


class Summary:
    """Means over the curves of all or of some categories.

    Args:
        curves: of K categories.
        rules: their axes.
    """

    def __init__(self, curves: Curves, rules: Rules) -> None:
        self.curves = curves
        self.rules = rules
        self._steps: dict[str, np.ndarray] = {}

    def _precision(self, area: str) -> np.ndarray:
        """(T, R, K) at the most detections: the order in which the originals add up."""
        if area not in self._steps:
            at = self.curves.precision[:, AREA_NAMES.index(area), -1]
            self._steps = {area: np.ascontiguousarray(at.transpose(1, 2, 0))}
        return self._steps[area]

    def precision(
        self, area: str = "all", iou: float | None = None, chosen: np.ndarray | None = None
    ) -> float:
        """Average precision in 0..100, -1 where nothing is to be found.

        Args:
            area: one of `AREA_NAMES`.
            iou: one IoU threshold; None averages over all.
            chosen: (K,) bool, the categories; None takes all.
        """
        values = self._precision(area)
        if iou is not None:
            values = values[iou == self.rules.iou_thresholds]
        if chosen is not None:
            values = values[:, :, chosen]
        return percent(mean_of_measured(values))

    def recall(self, area: str = "all", limit: int = -1, chosen: np.ndarray | None = None) -> float:
        """Average recall in 0..100 at one of the limits of detections."""
        values = self.curves.recall[:, AREA_NAMES.index(area), limit].T
        if chosen is not None:
            values = values[:, chosen]
        return percent(mean_of_measured(values))

    def figures(self, suffix: str = "", chosen: np.ndarray | None = None) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, AR@n, ARs, ARm, ARl of some categories.

        Args:
            suffix: appended to every name.
            chosen: (K,) bool, the categories; None takes all.
        """
        most = self.rules.max_dets[-1]
        at = "" if most == NO_LIMIT else f"@{most}"
        found = {
            "AP": self.precision(chosen=chosen),
            "AP50": self.precision(iou=0.5, chosen=chosen),
            "AP75": self.precision(iou=self.rules.iou_thresholds[5], chosen=chosen),
        }
        found |= {f"AP{_SIZES[a]}": self.precision(a, chosen=chosen) for a in _SIZES}
        for place, limit in enumerate(self.rules.max_dets[:-1]):
            found[f"AR@{limit}"] = self.recall(limit=place, chosen=chosen)
        found[f"AR{at}"] = self.recall(chosen=chosen)
        for area, letter in _SIZES.items():
            found[f"AR{letter}"] = self.recall(area, chosen=chosen)
            found[f"AR{letter}{at}"] = found[f"AR{letter}"]
        return {name + suffix: value for name, value in found.items()}


@dataclass(frozen=True)
class PerCategory:
    """Figures of each of the K categories, 0..100, -1 where no box is to be found.

    Attributes:
        figures: name -> (K,) float64: AP, AP50, AP75, APs, APm, APl, AR.
        num_boxes: (K,) boxes to find.
        num_images: (K,) images with a box.
        num_detections: (K,) detections given, before any limit.
    """

    figures: dict[str, np.ndarray]
    num_boxes: np.ndarray
    num_images: np.ndarray
    num_detections: np.ndarray


def per_category(curves: Curves, problem: Problem) -> PerCategory:
    """Each category on its own; the means over (T, R) are those of its curve."""
    count = problem.num_categories
    best = curves.precision[:, :, -1]  # (K, A, T, R)
    middle = 5 if best.shape[2] > 5 else -1
    figures = {
        "AP": best[:, 0].mean((1, 2)),
        "AP50": best[:, 0, 0].mean(1),
        "AP75": best[:, 0, middle].mean(1),
    }
    for area, letter in _SIZES.items():
        figures[f"AP{letter}"] = best[:, AREA_NAMES.index(area)].mean((1, 2))
    figures["AR"] = curves.recall[:, 0, -1].mean(1)
    known = problem.detections.categories[problem.detections.categories >= 0]
    wanted = ~problem.gt_ignored
    pairs = problem.gt_images[wanted].astype(np.int64) * count + problem.gt_categories[wanted]
    return PerCategory(
        figures={k: np.where(v > -1, 100 * v, NOT_MEASURED) for k, v in figures.items()},
        num_boxes=curves.num_boxes[:, 0],
        num_images=np.bincount(np.unique(pairs) % max(count, 1), minlength=count),
        num_detections=np.bincount(known, minlength=count),
    )


def band_figures(
    summary: Summary,
    truth: GroundTruth,
    per: PerCategory,
    hierarchy: CategoryHierarchy | None = None,
) -> dict[str, float]:
    """AP of categories by frequency and, with a tree, by their depth.

    Args:
        summary: of the curves.
        truth: its ``frequency`` gives APr, APc, APf; where it has none, the bands are those of
            the number of images with the category in this file: AP_images_1_3 and so on.
        per: of the same curves.
        hierarchy: gives AP_depth_1 (roots), AP_depth_2, ...
    """
    found: dict[str, float] = {}
    if truth.frequency is not None:
        frequency = np.array(truth.frequency)
        found |= {f"AP{f}": summary.precision(chosen=frequency == f) for f in "rcf"}
    else:
        for low, high in _IMAGE_BANDS:
            inside = (per.num_images >= low) & (per.num_images <= (high or np.inf))
            name = f"AP_images_{low}_{high}" if high else f"AP_images_{low}_up"
            found[name] = summary.precision(chosen=inside)
    if hierarchy is not None and hierarchy.levels.max(initial=1) > 1:
        levels = hierarchy.levels[: hierarchy.num_categories]
        for level in np.unique(levels).tolist():
            found[f"AP_depth_{level}"] = summary.precision(chosen=levels == level)
    return found


@dataclass(frozen=True)
class Report:
    """What an evaluation says.

    Attributes:
        protocol: 'coco', 'lvis', 'lvis-fixed' or 'v3det'.
        figures: name -> 0..100, -1 where nothing was to be found.
        per_category: each category on its own.
        curves: precision and recall.
        truth: the annotations.
        detections: what was evaluated.
        problem: what was matched by which rules.
        hierarchy: the category tree, or None.
    """

    protocol: str
    figures: dict[str, float]
    per_category: PerCategory
    curves: Curves
    truth: GroundTruth
    detections: Detections
    problem: Problem
    hierarchy: CategoryHierarchy | None = None
