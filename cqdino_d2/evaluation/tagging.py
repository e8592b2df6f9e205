"""How well a tagger names the categories of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..structures import CategoryHierarchy
from .column_evaluator import ColumnEvaluator
from .columns import Detections, GroundTruth
from .figures import NOT_MEASURED, mean_of, percent

# images of the annotation file that show a category, as LVIS counts those of its training set
_BANDS = {"r": (1, 10), "c": (11, 100), "f": (101, None)}


@dataclass(frozen=True)
class TaggingReport:
    """What a tagging is worth.

    Attributes:
        figures: name -> 0..100, -1 where nothing was to be found.
        average_precision: (K,) of each category in 0..1, -1 where no image shows it.
    """

    figures: dict[str, float]
    average_precision: np.ndarray


@dataclass(frozen=True)
class TaggingProtocol:
    """Scores lists of categories per image; boxes do not matter.

    An image shows the categories of its boxes that are no crowds. With a tree, listed ancestors of
    those count neither as right nor as wrong, as in the training's loss. AP is taken over the
    categories that the images list: what is in an image and not in its list is missed.

    Figures: ``mAP``, the mean over categories, with ``mAPr``, ``mAPc``, ``mAPf`` for the dataset's
    frequency bands (without these, by 1-10, 11-100 and more images of the annotation file), and
    ``precision``, the mean over images of the share of right ones in the list.
    """

    name: ClassVar[str] = "tagging"
    hierarchy: CategoryHierarchy | None = None

    def evaluate(self, truth: GroundTruth, detections: Detections) -> TaggingReport:
        """Scores the categories and scores of the detections; each category once per image."""
        num_categories = len(truth.category_ids)
        shown = _pairs(truth.images[~truth.crowd], truth.categories[~truth.crowd], num_categories)
        known = detections.take(detections.categories >= 0)
        listed = known.images.astype(np.int64) * num_categories + known.categories
        counts = np.isin(listed, shown) | ~np.isin(listed, self._above(shown, num_categories))
        known, listed = known.take(counts), listed[counts]
        right = np.isin(listed, shown)
        images_with = np.bincount(shown % num_categories, minlength=num_categories)
        precision = _average_precision(known, right, images_with)
        measured = images_with > 0
        figures = {"mAP": percent(mean_of(precision[measured]))}
        for band, inside in _bands(truth, images_with).items():
            figures[f"mAP{band}"] = percent(mean_of(precision[inside & measured]))
        figures["precision"] = percent(_mean_share(known.images, right))
        return TaggingReport(figures, np.where(measured, precision, NOT_MEASURED))

    def check(self, truth: GroundTruth) -> None:
        """All annotations can be scored."""

    def _above(self, shown: np.ndarray, num_categories: int) -> np.ndarray:
        """Pairs of an image and an ancestor of what it shows."""
        if self.hierarchy is None:
            return np.empty(0, np.int64)
        rows = self.hierarchy.category_ancestors.take(shown % num_categories)
        images = np.repeat(shown // num_categories, np.diff(rows.offsets))
        return _pairs(images, rows.indices, num_categories)


def _pairs(images: np.ndarray, categories: np.ndarray, num_categories: int) -> np.ndarray:
    """Each (image, category) once, as one ascending number."""
    return np.unique(images.astype(np.int64) * num_categories + categories)


def _average_precision(
    listed: Detections, right: np.ndarray, images_with: np.ndarray
) -> np.ndarray:
    """(K,) sums of the precision at every right entry of a category's ranking, over its images."""
    order = np.lexsort((-listed.scores, listed.categories))
    categories, right = listed.categories[order], right[order]
    starts = np.searchsorted(categories, np.arange(len(images_with)))
    hits = np.cumsum(np.concatenate([[0], right]))
    rank = np.arange(len(right)) - starts[categories] + 1
    share = (hits[1:] - hits[starts[categories]]) / rank
    sums = np.bincount(categories, weights=share * right, minlength=len(images_with))
    return sums / np.maximum(images_with, 1)


def _mean_share(images: np.ndarray, right: np.ndarray) -> float:
    total = np.bincount(images)
    shares = np.bincount(images, weights=right)[total > 0] / total[total > 0]
    return mean_of(shares)


def _bands(truth: GroundTruth, images_with: np.ndarray) -> dict[str, np.ndarray]:
    if truth.frequency is not None:
        return {band: np.array(truth.frequency) == band for band in _BANDS}
    return {
        band: (images_with >= low) & (images_with <= (high or np.inf))
        for band, (low, high) in _BANDS.items()
    }


class TaggingEvaluator(ColumnEvaluator):
    """Scores a `CategoryTagger` by `TaggingProtocol` and by ARC; see `ColumnEvaluator`."""

    def __init__(self, *, dataset_name: str, **kwargs: Any) -> None:
        super().__init__(
            dataset_name=dataset_name, protocols={"tagging": TaggingProtocol()}, **kwargs
        )
