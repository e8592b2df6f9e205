"""COCO, LVIS and V3Det: what each of them matches, and which figures it reports."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np

from ..annotations.ids import UNKNOWN
from ..structures import CategoryHierarchy, RaggedIndex
from .columns import Detections, GroundTruth
from .core import accumulate
from .figures import Matched, Report, Summary, band_figures, match_problem, per_category
from .problem import NO_LIMIT, Problem, Rules

_LOGGER = logging.getLogger(__name__)
FIXED_DETECTIONS = 10_000
_ROWS_AT_ONCE = 1 << 16  # few enough that what is computed on the way stays in a processor's cache
_LARGEST_TABLE = 1 << 27  # bytes; LVIS' validation set needs 24 MB
_SEARCHED, _OPEN_ENDED = 1, 2


class EvaluationProtocol(Protocol):
    """A way to score detections."""

    name: str

    def problem(self, truth: GroundTruth, detections: Detections) -> Problem:
        """What is matched by which rules."""

    def match(
        self, truth: GroundTruth, detections: Detections, *, backend: str | None = None
    ) -> Matched:
        """Matches; the detections can be forgotten then."""

    def report(self, truth: GroundTruth, matched: Matched, *, backend: str | None = None) -> Report:
        """The figures."""

    def evaluate(
        self, truth: GroundTruth, detections: Detections, *, backend: str | None = None
    ) -> Report:
        """Both at once."""

    def check(self, truth: GroundTruth) -> None:
        """Raises ValueError where these annotations cannot be scored."""


def _as_problem(
    truth: GroundTruth,
    detections: Detections,
    rules: Rules,
    *,
    ignored: np.ndarray,
    crowd: np.ndarray,
    exempt: np.ndarray | None = None,
    hierarchy: CategoryHierarchy | None = None,
) -> Problem:
    return Problem(
        num_categories=len(truth.category_ids),
        detections=detections,
        exempt=exempt,
        gt_images=truth.images,
        gt_categories=truth.categories,
        gt_boxes_xywh_abs=truth.boxes_xywh_abs,
        gt_areas=truth.areas,
        gt_ignored=ignored,
        gt_crowd=crowd,
        gt_zero_id=truth.zero_id,
        ancestors=None if hierarchy is None else hierarchy.category_ancestors,
        rules=rules,
    )


@dataclass(frozen=True)
class _Base:
    """What the protocols share."""

    name: ClassVar[str]
    hierarchy: CategoryHierarchy | None = None

    def problem(self, truth: GroundTruth, detections: Detections) -> Problem:
        """What is matched by which rules."""
        raise NotImplementedError

    def match(
        self, truth: GroundTruth, detections: Detections, *, backend: str | None = None
    ) -> Matched:
        """Matches; the detections can be forgotten then.

        Args:
            truth: the annotations.
            detections: over the same images and categories.
            backend: of the matching core; None chooses.

        Raises:
            ValueError: the annotations lack what the protocol needs, or the tree does not fit.
        """
        self.check(truth)
        return match_problem(self.problem(truth, detections), backend=backend)

    def check(self, truth: GroundTruth) -> None:
        """Makes sure, before there are detections, that these annotations can be scored.

        Raises:
            ValueError: they lack what the protocol needs, or the tree does not fit.
        """
        if not truth.annotated:
            raise ValueError(
                "the annotation file has no list 'annotations': there is nothing to score"
            )
        hierarchy = self.hierarchy
        if hierarchy is not None and hierarchy.num_categories != len(truth.category_ids):
            raise ValueError(
                f"the category tree is over {hierarchy.num_categories} categories, the "
                f"annotations have {len(truth.category_ids)}"
            )

    def report(self, truth: GroundTruth, matched: Matched, *, backend: str | None = None) -> Report:
        """The figures of what was matched.

        Args:
            truth: the annotations.
            matched: what `match` returned.
            backend: of the matching core; None chooses.
        """
        curves = accumulate(matched.outcomes, matched.rules, backend=backend)
        summary = Summary(curves, matched.rules)
        per = per_category(curves, matched)
        figures = summary.figures()
        figures |= self._split_figures(summary, truth)
        figures |= band_figures(summary, truth, per, self.hierarchy)
        return Report(
            protocol=self.name,
            figures=figures,
            per_category=per,
            curves=curves,
            rules=matched.rules,
            truth=truth,
            hierarchy=self.hierarchy,
        )

    def evaluate(
        self, truth: GroundTruth, detections: Detections, *, backend: str | None = None
    ) -> Report:
        """Scores detections: `match`, then `report`.

        Raises:
            ValueError: the annotations lack what the protocol needs, or the tree does not fit.
        """
        matched = self.match(truth, detections, backend=backend)
        return self.report(truth, matched, backend=backend)

    def _split_figures(self, summary: Summary, truth: GroundTruth) -> dict[str, float]:
        """Base, novel and OVD where the annotations tell which category is novel."""
        if truth.novel is None:
            return {}
        base = summary.figures("_base", ~truth.novel)
        novel = summary.figures("_novel", truth.novel)
        figures = base | novel
        for name in ("AP", "AP50", "AP75"):
            b, n = base[f"{name}_base"], novel[f"{name}_novel"]
            figures[f"{name}_ovd"] = (b + 3 * n) / 4 if min(b, n) > -1 else -1.0
        return figures


@dataclass(frozen=True)
class CocoProtocol(_Base):
    """COCO box AP (pycocotools 2.0).

    AP is taken at the largest of ``max_dets``, where pycocotools' own first figure is wired to
    100 and is -1 for any other.

    Attributes:
        max_dets: ascending numbers of detections per (image, category); each gives an AR.
        hierarchy: only for AP by depth.
    """

    name: ClassVar[str] = "coco"
    max_dets: tuple[int, ...] = (1, 10, 100)

    def problem(self, truth: GroundTruth, detections: Detections) -> Problem:
        """Crowds are ignored; ``ignore`` is not used, as pycocotools overwrites it."""
        rules = Rules(self.max_dets)
        return _as_problem(truth, detections, rules, ignored=truth.crowd, crowd=truth.crowd)


@dataclass(frozen=True)
class V3DetProtocol(_Base):
    """V3Det: COCO's rules at 300, and a box excuses detections of its category's descendants.

    A detection "golden retriever" on a box annotated as "dog" is neither a hit nor a false
    positive.

    Attributes:
        max_dets: detections per (image, category).
        hierarchy: the category tree; None is COCO at ``max_dets``.
    """

    name: ClassVar[str] = "v3det"
    max_dets: int = 300

    def problem(self, truth: GroundTruth, detections: Detections) -> Problem:
        """As COCO's, with the ancestors' boxes."""
        return _as_problem(
            truth,
            detections,
            Rules((self.max_dets,)),
            ignored=truth.crowd,
            crowd=truth.crowd,
            hierarchy=self.hierarchy,
        )


@dataclass(frozen=True)
class LvisProtocol(_Base):
    """LVIS (lvis-api 0.5): detections count only where their category was looked for.

    Attributes:
        max_dets: detections per image, over all categories.
        hierarchy: only for AP by depth.
    """

    name: ClassVar[str] = "lvis"
    max_dets: int = 300

    def within_limit(self, detections: Detections) -> np.ndarray:
        """(N,) bool: the best of each image; unknown categories take their places as well."""
        return _best_per_group(detections.images, detections.scores, self.max_dets)

    def check(self, truth: GroundTruth) -> None:
        """See the other protocols; the annotations must be LVIS'."""
        super().check(truth)
        if truth.negatives is None or truth.not_exhaustive is None:
            raise ValueError(
                "these are no LVIS annotations: images lack neg_category_ids or "
                "not_exhaustive_category_ids"
            )

    def problem(self, truth: GroundTruth, detections: Detections) -> Problem:
        """``ignore`` is used, ``iscrowd`` is not; boxes without an area are dropped.

        Raises:
            ValueError: the annotations are not LVIS'.
        """
        self.check(truth)
        truth = truth.take_boxes((truth.areas > 0) & (truth.areas < np.inf))
        searched = _SearchedPairs(truth)
        within = self.within_limit(detections)
        categories = detections.categories.copy()
        exempt = np.empty(len(detections), bool)
        for start in range(0, len(detections), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            part = detections.take(rows)
            marks, areas = searched.marks(part), part.areas()
            counted = (marks & _SEARCHED != 0) & (areas > 0) & (areas < np.inf) & within[rows]
            categories[rows][~counted] = UNKNOWN
            np.not_equal(marks & _OPEN_ENDED, 0, out=exempt[rows])
        return _as_problem(
            truth,
            replace(detections, categories=categories),
            Rules((NO_LIMIT,)),
            ignored=truth.ignore,
            crowd=np.zeros(len(truth), bool),
            exempt=exempt,
        )

    def report(self, truth: GroundTruth, matched: Matched, *, backend: str | None = None) -> Report:
        """See the other protocols; AR is that of ``max_dets`` detections per image."""
        report = super().report(truth, matched, backend=backend)
        if truth.frequency is None:
            _LOGGER.warning("the categories have no frequency, so there is no APr, APc, APf")
        if type(self) is LvisProtocol:
            for letter in ("", "s", "m", "l"):
                report.figures[f"AR{letter}@{self.max_dets}"] = report.figures[f"AR{letter}"]
        return report


@dataclass(frozen=True)
class LvisFixedProtocol(LvisProtocol):
    """AP-fixed (arXiv 2102.01066): a limit on detections per category, none per image.

    Attributes:
        max_dets: detections per category over all images.
    """

    name: ClassVar[str] = "lvis-fixed"
    max_dets: int = FIXED_DETECTIONS

    def within_limit(self, detections: Detections) -> np.ndarray:
        """(N,) bool: the best of each category."""
        return _best_per_group(detections.categories, detections.scores, self.max_dets)


class _SearchedPairs:
    """In which images which categories of LVIS were looked for, and where not to the end.

    Args:
        truth: LVIS' annotations.
    """

    def __init__(self, truth: GroundTruth) -> None:
        assert truth.negatives is not None and truth.not_exhaustive is not None
        self._width = len(truth.category_ids)
        present = truth.images.astype(np.int64) * self._width + truth.categories
        looked_for = np.concatenate([present, self._pairs(truth.negatives)])
        open_ended = self._pairs(truth.not_exhaustive)
        size = len(truth.image_ids) * self._width
        self._table: np.ndarray | None = None
        self._pairs_of = {_SEARCHED: looked_for, _OPEN_ENDED: open_ended}
        if size <= _LARGEST_TABLE:  # else a search, which needs less memory
            self._table = np.zeros(size, np.uint8)
            for mark, pairs in self._pairs_of.items():
                self._table[pairs] |= mark

    def _pairs(self, lists: RaggedIndex) -> np.ndarray:
        """(entries,) row x width + index."""
        rows = np.repeat(np.arange(len(lists.offsets) - 1), np.diff(lists.offsets))
        return rows * self._width + lists.indices

    def marks(self, detections: Detections) -> np.ndarray:
        """(N,) uint8 the sum of `_SEARCHED` and `_OPEN_ENDED`; 0 for unknown categories."""
        known = detections.categories != UNKNOWN
        keys = detections.images.astype(np.int64) * self._width + detections.categories
        if self._table is not None:
            return np.where(known, self._table[np.where(known, keys, 0)], 0)
        found = np.zeros(len(keys), np.uint8)
        for mark, pairs in self._pairs_of.items():
            found |= np.where(known & np.isin(keys, pairs), np.uint8(mark), np.uint8(0))
        return found


def _best_per_group(groups: np.ndarray, scores: np.ndarray, limit: int) -> np.ndarray:
    """(N,) bool: the ``limit`` best of each group; of equals the first in the file."""
    kept = np.ones(len(groups), bool)
    counts = np.bincount(groups + 1)
    if counts.max(initial=0) <= limit:
        return kept
    crowded = np.flatnonzero(counts[groups + 1] > limit)
    if len(crowded):
        order = crowded[np.lexsort((-scores[crowded], groups[crowded]))]
        sizes = counts[counts > limit]
        place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept[order[place >= limit]] = False
    return kept
