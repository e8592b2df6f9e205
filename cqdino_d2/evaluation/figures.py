"""Single figures from the curves, under the names that people know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..structures import CategoryHierarchy
from .columns import GroundTruth
from .core import match
from .problem import AREA_NAMES, NO_LIMIT, Curves, Outcomes, Problem, Rules

NOT_MEASURED = -1.0
_SIZES = {"small": "s", "medium": "m", "large": "l"}
_IMAGE_BANDS = ((1, 3), (4, 10), (11, 30), (31, None))


def mean_of(values: np.ndarray) -> float:
    """The mean, added up in the array's order as the originals do; -1 of nothing."""
    return float(np.mean(values.reshape(-1))) if values.size else NOT_MEASURED


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

    def precision(
        self, area: str = "all", iou: float | None = None, chosen: np.ndarray | None = None
    ) -> float:
        """Average precision in 0..100 at the most detections, -1 where nothing is to be found.

        Args:
            area: one of `AREA_NAMES`.
            iou: one IoU threshold; None averages over all.
            chosen: (K,) bool, the categories; None takes all.
        """
        index, thresholds = AREA_NAMES.index(area), self.rules.iou_thresholds
        rows = self.curves.recall[:, index, -1, 0] > -1
        if chosen is not None:
            rows = rows & chosen
        steps = np.arange(len(thresholds)) if iou is None else np.flatnonzero(thresholds == iou)
        # (T, R, K): the originals' order, on which the last bits of a sum depend
        values = np.empty((len(steps), len(self.rules.recall_thresholds), rows.sum()))
        for place, step in enumerate(steps):
            values[place] = self.curves.precision[rows, index, -1, step].T
        return percent(mean_of(values))

    def recall(self, area: str = "all", limit: int = -1, chosen: np.ndarray | None = None) -> float:
        """Average recall in 0..100 at one of the limits of detections."""
        values = self.curves.recall[:, AREA_NAMES.index(area), limit].T
        if chosen is not None:
            values = values[:, chosen]
        return percent(mean_of(values[values > -1]))

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
class Matched:
    """Detections that were matched: what the figures need of them.

    Attributes:
        outcomes: of the matching.
        rules: by which it was matched.
        num_images: (K,) images with a box to find.
    """

    outcomes: Outcomes
    rules: Rules
    num_images: np.ndarray


def match_problem(problem: Problem, *, backend: str | None = None) -> Matched:
    """Matches a problem; see `core.match`."""
    count = problem.num_categories
    wanted = ~problem.gt_ignored
    pairs = problem.gt_images[wanted].astype(np.int64) * count + problem.gt_categories[wanted]
    num_images = np.bincount(np.unique(pairs) % max(count, 1), minlength=count)
    return Matched(match(problem, backend=backend), problem.rules, num_images)


@dataclass(frozen=True)
class PerCategory:
    """Figures of each of the K categories, 0..100, -1 where no box is to be found.

    Attributes:
        figures: name -> (K,) float64: AP, AP50, AP75, APs, APm, APl, AR.
        num_boxes: (K,) boxes to find.
        num_images: (K,) images with such a box.
        num_detections: (K,) detections that count.
    """

    figures: dict[str, np.ndarray]
    num_boxes: np.ndarray
    num_images: np.ndarray
    num_detections: np.ndarray


def per_category(curves: Curves, matched: Matched) -> PerCategory:
    """Each category on its own: the means over its curve."""
    best = curves.precision[:, :, -1]  # (K, A, T, R)
    figures = {
        "AP": best[:, 0].mean((1, 2)),
        "AP50": best[:, 0, 0].mean(1),
        "AP75": best[:, 0, 5].mean(1),
    }
    for area, letter in _SIZES.items():
        figures[f"AP{letter}"] = best[:, AREA_NAMES.index(area)].mean((1, 2))
    figures["AR"] = curves.recall[:, 0, -1].mean(1)
    outcomes = matched.outcomes
    return PerCategory(
        figures={k: np.where(v > -1, 100 * v, NOT_MEASURED) for k, v in figures.items()},
        num_boxes=outcomes.num_boxes[:, 0],
        num_images=matched.num_images,
        num_detections=outcomes.ends - outcomes.starts,
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
    measured = per.figures["AP"] > -1
    if truth.frequency is not None:
        frequency = np.array(truth.frequency)
        found |= {f"AP{f}": summary.precision(chosen=frequency == f) for f in "rcf"}
    else:
        for low, high in _IMAGE_BANDS:
            inside = (per.num_images >= low) & (per.num_images <= (high or np.inf))
            name = f"AP_images_{low}_{high}" if high else f"AP_images_{low}_up"
            found[name] = mean_of(per.figures["AP"][inside & measured])
    if hierarchy is not None and hierarchy.levels.max(initial=1) > 1:
        levels = hierarchy.levels[: hierarchy.num_categories]
        for level in np.unique(levels).tolist():
            found[f"AP_depth_{level}"] = mean_of(per.figures["AP"][(levels == level) & measured])
    return found


@dataclass(frozen=True)
class Report:
    """What an evaluation says.

    Attributes:
        protocol: 'coco', 'lvis', 'lvis-fixed' or 'v3det'.
        figures: name -> 0..100, -1 where nothing was to be found.
        per_category: each category on its own.
        curves: precision and recall.
        rules: the curves' axes.
        truth: the annotations.
        hierarchy: the category tree, or None.
    """

    protocol: str
    figures: dict[str, float]
    per_category: PerCategory
    curves: Curves
    rules: Rules
    truth: GroundTruth
    hierarchy: CategoryHierarchy | None = None
