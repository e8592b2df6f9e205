"""What kinds of errors cost how much AP50, as in TIDE (arXiv 2008.08115).

Thresholds are TIDE's: a detection hits from IoU 0.5 on and is background up to 0.1. Confusions are
told apart by the category tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from ..structures import CategoryHierarchy
from .columns import Detections, GroundTruth
from .core import accumulate, match
from .problem import IGNORED, UNMATCHED, Outcomes, Problem, Rules
from .protocols import EvaluationProtocol
from .reference import outside_ranges, pairwise_iou_of_rows

FOREGROUND, BACKGROUND = 0.5, 0.1
KINDS = (
    "localisation",
    "confusion_sibling",
    "confusion_ancestor",
    "confusion_other",
    "duplicate",
    "background",
    "confusion_and_localisation",
    "missed",
)
_PAIRS_AT_ONCE = 4_000_000
MISS, EXCUSED, HIT = 0, 1, 2
_MASKS = np.array([[[0, 0]], [[0, 1]], [[1, 0]]], np.int32)


@dataclass(frozen=True)
class ErrorBreakdown:
    """Errors at IoU 0.5.

    Attributes:
        ap50: as it is, in 0..100; all sizes, -1 without ground truth.
        counts: kind -> false positives, or boxes that were missed.
        ap50_gain: kind -> by how much AP50 would rise without these errors: boxes or categories
            set right (where nothing else found the object), other false positives removed,
            missed boxes not asked for.
    """

    ap50: float
    counts: dict[str, int]
    ap50_gain: dict[str, float]


@dataclass(frozen=True)
class JudgedDetections:
    """The n detections that count, by their columns, at IoU 0.5.

    Attributes:
        problem: what was matched; its ``gt_ignored`` boxes need not be found.
        images: (n,) int32.
        categories: (n,) int32.
        boxes_xywh_abs: (n, 4).
        scores: (n,).
        status: (n,) `HIT`, `MISS` (a false positive) or `EXCUSED` (neither).
        kinds: (n,) place in `KINDS` of a false positive, else -1.
        boxes: (n,) row of the problem's box that was hit or that the error is about, else -1.
    """

    problem: Problem
    images: np.ndarray
    categories: np.ndarray
    boxes_xywh_abs: np.ndarray
    scores: np.ndarray
    status: np.ndarray
    kinds: np.ndarray
    boxes: np.ndarray

    def take(self, rows: np.ndarray) -> JudgedDetections:
        """Some of the detections: row numbers or a mask. What they are stays as it was.

        Matching goes by descending score, so all above a score are what they would be alone.
        """
        names = [field.name for field in fields(self) if field.name != "problem"]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def hit_boxes(self) -> np.ndarray:
        """(G,) bool: boxes of the problem that a detection hits."""
        return self._marked(self.boxes[self.status == HIT])

    def missed_boxes(self) -> np.ndarray:
        """(M,) rows of boxes to find that no detection hits and no error is about."""
        explained = self._marked(self.boxes[self.boxes >= 0])
        return np.flatnonzero(~self.problem.gt_ignored & ~explained)

    def _marked(self, rows: np.ndarray) -> np.ndarray:
        marks = np.zeros(len(self.problem.gt_images), bool)
        marks[rows] = True
        return marks


def judge_detections(
    protocol: EvaluationProtocol,
    truth: GroundTruth,
    detections: Detections,
    *,
    backend: str | None = None,
) -> JudgedDetections:
    """Says of each detection that counts whether it hits a box, and if not, why not.

    Args:
        protocol: decides which detections count.
        truth: the annotations.
        detections: what to judge.
        backend: of the matching core; None chooses.
    """
    problem = protocol.problem(truth, detections)
    rules = Rules(
        problem.rules.max_dets[-1:],
        iou_thresholds=np.array([FOREGROUND]),
        area_ranges=problem.rules.area_ranges[:1],
    )
    ignored = problem.gt_ignored | outside_ranges(problem.gt_areas, rules)[0]
    problem = replace(problem, rules=rules, gt_ignored=ignored)
    matches = match(problem, keep_matches=True, backend=backend).matches
    return _judge(problem, matches, protocol.hierarchy)


def break_down_errors(
    protocol: EvaluationProtocol,
    truth: GroundTruth,
    detections: Detections,
    *,
    backend: str | None = None,
) -> ErrorBreakdown:
    """Sorts the errors of a protocol's evaluation by kind.

    Args:
        protocol: decides which detections count.
        truth: the annotations.
        detections: what to judge.
        backend: of the matching core; None chooses.
    """
    return summarize_errors(
        judge_detections(protocol, truth, detections, backend=backend), backend=backend
    )


def summarize_errors(judged: JudgedDetections, *, backend: str | None = None) -> ErrorBreakdown:
    """What the errors of judged detections cost; see `break_down_errors`."""
    problem, rules = judged.problem, judged.problem.rules
    wanted = ~problem.gt_ignored
    num_boxes = np.bincount(problem.gt_categories[wanted], minlength=problem.num_categories)
    ap50 = _ap50(judged, num_boxes, rules, backend)
    hit, missed = judged.hit_boxes(), judged.missed_boxes()
    gains = {}
    for kind, name in enumerate(KINDS[:-1]):
        gains[name] = _ap50(_without(judged, kind, hit), num_boxes, rules, backend) - ap50
    found = num_boxes - np.bincount(problem.gt_categories[missed], minlength=len(num_boxes))
    gains[KINDS[-1]] = _ap50(judged, found, rules, backend) - ap50
    counts = np.bincount(judged.kinds[judged.kinds >= 0], minlength=len(KINDS))
    counts[-1] = len(missed)
    return ErrorBreakdown(
        ap50=ap50,
        counts=dict(zip(KINDS, counts.tolist(), strict=True)),
        ap50_gain={name: gain if ap50 > -1 else 0.0 for name, gain in gains.items()},
    )


def _judge(
    problem: Problem, matches: np.ndarray, hierarchy: CategoryHierarchy | None
) -> JudgedDetections:
    """What each detection that counts is."""
    columns = problem.detections
    order = np.lexsort((-columns.scores, columns.images))  # among equal scores the order counts
    counted = order[matches[order] >= IGNORED]
    columns = columns.take(counted)
    matched = matches[counted]
    outside = outside_ranges(columns.areas(), problem.rules)[0]
    matched[outside & (matched == UNMATCHED)] = IGNORED
    status = np.where(matched >= 0, HIT, np.where(matched == IGNORED, EXCUSED, MISS))
    kinds, boxes = np.full(len(counted), -1), np.where(matched >= 0, matched, -1)
    wrong = np.flatnonzero(matched == UNMATCHED)
    relation = _Relation(hierarchy, problem.num_categories)
    for rows, best in _best_boxes(problem, columns, wrong):
        kinds[rows], boxes[rows] = _kind(best, columns.categories[rows], relation, problem)
    return JudgedDetections(
        problem=problem,
        images=columns.images,
        categories=columns.categories,
        boxes_xywh_abs=columns.boxes_xywh_abs,
        scores=columns.scores,
        status=status,
        kinds=kinds,
        boxes=boxes,
    )


@dataclass(frozen=True)
class _Best:
    """For each of n detections the best IoU and its box, of the same and of other categories."""

    same: np.ndarray
    same_box: np.ndarray
    other: np.ndarray
    other_box: np.ndarray


def _best_boxes(
    problem: Problem, columns: Detections, wrong: np.ndarray
) -> Iterator[tuple[np.ndarray, _Best]]:
    """Compares detections with all boxes to find in their image, some millions of pairs a time."""
    wanted = np.flatnonzero(~problem.gt_ignored)
    images = problem.gt_images[wanted]
    first = np.searchsorted(images, columns.images[wrong])
    count = np.searchsorted(images, columns.images[wrong], "right") - first
    cuts = np.searchsorted(np.cumsum(count), np.arange(0, count.sum(), _PAIRS_AT_ONCE)[1:])
    for part in np.split(np.arange(len(wrong)), cuts):
        rows, sizes = wrong[part], count[part]
        det = np.repeat(np.arange(len(part)), sizes)
        start = np.repeat(np.cumsum(sizes) - sizes, sizes)
        box = wanted[np.repeat(first[part], sizes) + np.arange(len(det)) - start]
        iou = pairwise_iou_of_rows(
            columns.boxes_xywh_abs[rows[det]].astype(np.float64), problem.gt_boxes_xywh_abs[box]
        )
        same = columns.categories[rows[det]] == problem.gt_categories[box]
        yield (
            rows,
            _Best(
                *_best_of(det[same], box[same], iou[same], len(part)),
                *_best_of(det[~same], box[~same], iou[~same], len(part)),
            ),
        )


def _best_of(
    det: np.ndarray, box: np.ndarray, iou: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count,) the highest IoU of each detection (0 of none) and its box (-1 of none)."""
    best, chosen = np.zeros(count), np.full(count, -1)
    np.maximum.at(best, det, iou)
    winner = (iou == best[det]) & (iou > 0)
    chosen[det[winner]] = box[winner]
    return best, chosen


class _Relation:
    """How a predicted category stands to the true one."""

    def __init__(self, hierarchy: CategoryHierarchy | None, num_categories: int) -> None:
        tree = hierarchy or CategoryHierarchy.flat(num_categories)
        above = tree.category_ancestors
        self.count = num_categories
        self.parents = tree.parents
        rows = np.repeat(np.arange(num_categories), np.diff(above.offsets))
        self.ancestors = rows * num_categories + above.indices

    def is_ancestor(self, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        """(n,) bool: the prediction is too general."""
        return np.isin(true.astype(np.int64) * self.count + predicted, self.ancestors)

    def is_sibling(self, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        """(n,) bool: both have a direct parent in common."""
        pairs, inverse = np.unique(
            predicted.astype(np.int64) * self.count + true, return_inverse=True
        )
        common = np.fromiter(
            (
                not set(self.parents[a].tolist()).isdisjoint(self.parents[b].tolist())
                for a, b in zip(*np.divmod(pairs, self.count), strict=True)
            ),
            bool,
            len(pairs),
        )
        return common[inverse]


def _kind(
    best: _Best, predicted: np.ndarray, relation: _Relation, problem: Problem
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) number in KINDS and the box that the error is about (-1 for none); TIDE's order."""
    inaccurate = (best.same >= BACKGROUND) & (best.same < FOREGROUND)
    confused = best.other >= FOREGROUND
    duplicate = best.same >= FOREGROUND
    background = np.maximum(best.same, best.other) < BACKGROUND
    true = np.append(problem.gt_categories, 0)[best.other_box]  # -1: no matter
    ancestor, sibling = np.zeros(len(predicted), bool), np.zeros(len(predicted), bool)
    ancestor[confused] = relation.is_ancestor(predicted[confused], true[confused])
    sibling[confused] = relation.is_sibling(predicted[confused], true[confused])
    kinds = np.select(
        [inaccurate, confused & ancestor, confused & sibling, confused, duplicate, background],
        [0, 2, 1, 3, 4, 5],
        default=6,
    )
    boxes = np.select(
        [kinds == 0, (kinds >= 1) & (kinds <= 3)], [best.same_box, best.other_box], -1
    )
    return kinds, boxes


def _without(judged: JudgedDetections, kind: int, hit: np.ndarray) -> JudgedDetections:
    """The detections with the errors of one kind set right or removed."""
    status, categories = judged.status.copy(), judged.categories.copy()
    rows = np.flatnonzero(judged.kinds == kind)
    status[rows] = EXCUSED
    fixable = rows[~np.append(hit, True)[judged.boxes[rows]]]  # -1: about no box
    fixable = fixable[np.argsort(-judged.scores[fixable], kind="stable")]
    _, first = np.unique(judged.boxes[fixable], return_index=True)  # the best one of each box
    chosen = fixable[first]
    status[chosen] = HIT
    categories[chosen] = judged.problem.gt_categories[judged.boxes[chosen]]
    return replace(judged, status=status, categories=categories)


def _ap50(
    judged: JudgedDetections, num_boxes: np.ndarray, rules: Rules, backend: str | None
) -> float:
    """0..100 over categories with boxes, -1 without any."""
    order = np.argsort(judged.categories, kind="stable")
    edges = np.searchsorted(judged.categories[order], np.arange(len(num_boxes) + 1))
    outcomes = Outcomes(
        starts=edges[:-1],
        ends=edges[1:],
        scores=judged.scores[order].astype(np.float64),
        ranks=np.zeros(len(order), np.int32),
        codes=judged.status[order].astype(np.int32),
        masks=_MASKS,
        num_boxes=num_boxes[:, None],
        matches=None,
    )
    curves = accumulate(outcomes, rules, backend=backend)
    values = curves.precision[num_boxes > 0]
    return 100 * float(values.mean()) if values.size else -1.0
