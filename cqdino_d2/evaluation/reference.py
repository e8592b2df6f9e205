"""The matching core in NumPy: the readable form of what `csrc/matching.cpp` does faster.

Only (image, category) pairs with a detection or a box are visited; on V3Det that is less than one
in fifty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..structures import RaggedIndex
from .problem import IGNORED, NOT_COUNTED, UNMATCHED, Curves, Outcomes, Problem, Rules

_MANY_CATEGORIES = 5000  # with this number or more, progress is shown


def pairwise_iou(
    boxes_xywh: np.ndarray, gt_boxes_xywh: np.ndarray, gt_crowd: np.ndarray
) -> np.ndarray:
    """(D, G) float64 IoU; with a crowd box the share of the detection that it covers.

    Args:
        boxes_xywh: (D, 4) float64.
        gt_boxes_xywh: (G, 4) float64.
        gt_crowd: (G,) bool.
    """
    return _iou(boxes_xywh[:, None], gt_boxes_xywh[None], gt_crowd)


def pairwise_iou_of_rows(boxes_xywh: np.ndarray, gt_boxes_xywh: np.ndarray) -> np.ndarray:
    """(P,) float64 IoU of each of P boxes with the box in the same row; no crowds."""
    return _iou(boxes_xywh, gt_boxes_xywh, np.zeros(len(boxes_xywh), bool))


def _iou(d: np.ndarray, g: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    right_bottom = np.minimum(d[..., 2:] + d[..., :2], g[..., 2:] + g[..., :2])
    sides = right_bottom - np.maximum(d[..., :2], g[..., :2])
    overlap = (sides > 0).all(-1)
    shared = sides[..., 0] * sides[..., 1]
    area = d[..., 2] * d[..., 3]
    union = np.where(crowd, area, area + g[..., 2] * g[..., 3] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=overlap)


@dataclass(frozen=True)
class _Pair:
    """What became of the D detections of an (image, category): (A, T, D) and (D,)."""

    hit: np.ndarray
    skipped: np.ndarray
    matched: np.ndarray


def _match_pair(
    iou: np.ndarray, ignored: np.ndarray, crowd: np.ndarray, zero_id: np.ndarray, rules: Rules
) -> _Pair:
    """Gives each detection, best score first, the box that it overlaps most.

    A box that needs not be found is taken only if no other is left; of equal IoUs the later box
    is taken; all but crowds are used up.

    Args:
        iou: (D, G).
        ignored: (A, G) bool.
        crowd: (G,) bool.
        zero_id: (G,) bool.
        rules: the axes.
    """
    thresholds = np.minimum(rules.iou_thresholds, 1 - 1e-10)[:, None]
    num_boxes = len(crowd)
    areas, detections = np.arange(len(ignored))[:, None], len(iou)
    steps = np.arange(len(thresholds))
    free = np.ones((len(ignored), len(thresholds), num_boxes), bool)
    hit = np.zeros((len(ignored), len(thresholds), detections), bool)
    skipped = np.zeros_like(hit)
    matched = np.full(detections, UNMATCHED)
    for place, row in enumerate(iou):
        possible = free & (row >= thresholds)
        wanted = possible & ~ignored[:, None]
        pool = np.where(wanted.any(-1, keepdims=True), wanted, possible)
        chosen = num_boxes - 1 - np.where(pool, row, -1)[..., ::-1].argmax(-1)
        found = pool.any(-1)
        free[areas, steps, chosen] &= ~found | crowd[chosen]
        hit[..., place] = found & ~zero_id[chosen]
        skipped[..., place] = found & ignored[areas, chosen]
        if found[0, 0]:
            matched[place] = IGNORED if skipped[0, 0, place] else chosen[0, 0]
    return _Pair(hit, skipped, matched)


def outside_ranges(areas: np.ndarray, rules: Rules) -> np.ndarray:
    """(A, N) bool: which areas lie outside each range."""
    low, high = rules.area_ranges[:, :1], rules.area_ranges[:, 1:]
    return (areas < low) | (areas > high)


class _Boxes:
    """The ground truth by category."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.count = problem.num_categories
        self.order = np.argsort(problem.gt_categories, kind="stable")
        edges = np.arange(self.count + 1)
        self.offsets = np.searchsorted(problem.gt_categories[self.order], edges)

    def own_rows(self, category: int) -> np.ndarray:
        """Rows of the category's boxes, ordered by image."""
        return self.order[self.offsets[category] : self.offsets[category + 1]]

    def rows(self, category: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the category's and its ancestors' boxes by image; True for the ancestors'."""
        own = self.own_rows(category)
        ancestors: RaggedIndex | None = self.problem.ancestors
        above = [] if ancestors is None else [self.own_rows(a) for a in ancestors[category]]
        borrowed = np.concatenate([np.empty(0, own.dtype), *above])
        rows = np.concatenate([own, borrowed])
        is_copy = np.arange(len(rows)) >= len(own)
        order = np.lexsort((rows, is_copy, self.problem.gt_images[rows]))
        return rows[order], is_copy[order]


def _match_category(
    problem: Problem, boxes: _Boxes, category: int, dets: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matches all detections of a category.

    Args:
        problem: all.
        boxes: the ground truth by category.
        category: which.
        dets: (D,) rows of its detections by image, best first.
        starts: (pairs + 1,) where in ``dets`` each image begins.

    Returns:
        hit and skipped (A, T, D), matches (D,).
    """
    rules, columns = problem.rules, problem.detections
    shape = (len(rules.area_ranges), len(rules.iou_thresholds), len(dets))
    hit, skipped = np.zeros(shape, bool), np.zeros(shape, bool)
    matches = np.full(len(dets), UNMATCHED)
    rows, is_copy = boxes.rows(category)
    images = problem.gt_images[rows]
    ignored = is_copy | problem.gt_ignored[rows] | outside_ranges(problem.gt_areas[rows], rules)
    det_images = columns.images[dets[starts[:-1]]]
    first, last = np.searchsorted(images, det_images), np.searchsorted(images, det_images, "right")
    for pair in np.flatnonzero(last > first):
        here, there = slice(*starts[pair : pair + 2]), slice(first[pair], last[pair])
        chosen = rows[there]
        crowd = problem.gt_crowd[chosen]
        boxes_xywh = columns.boxes_xywh_abs[dets[here]].astype(np.float64)
        iou = pairwise_iou(boxes_xywh, problem.gt_boxes_xywh_abs[chosen], crowd)
        result = _match_pair(iou, ignored[:, there], crowd, problem.gt_zero_id[chosen], rules)
        hit[..., here], skipped[..., here] = result.hit, result.skipped
        found = result.matched >= 0
        matches[here] = np.where(found, chosen[np.maximum(result.matched, 0)], result.matched)
    taken = columns.take(dets)
    excused = outside_ranges(taken.areas(), rules)
    if problem.exempt is not None:
        excused |= problem.exempt[dets]
        matches[problem.exempt[dets] & (matches == UNMATCHED)] = IGNORED
    skipped |= excused[:, None] & ~hit
    return hit, skipped, matches


def _curve(
    hit: np.ndarray, skipped: np.ndarray, scores: np.ndarray, num_boxes: int, rules: Rules
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision (T, R), recall (T,) and scores (T, R) of detections ordered by score.

    Args:
        hit: (T, D) bool.
        skipped: (T, D) bool.
        scores: (D,) descending.
        num_boxes: boxes to find, at least 1.
        rules: the axes.
    """
    num_steps, num_recalls = len(hit), len(rules.recall_thresholds)
    sampled, reached = np.zeros((num_steps, num_recalls)), np.zeros((num_steps, num_recalls))
    if not len(scores):
        return sampled, np.zeros(num_steps), reached
    true = np.cumsum(hit & ~skipped, axis=1).astype(float)
    false = np.cumsum(~hit & ~skipped, axis=1).astype(float)
    recall = true / num_boxes
    precision = true / (false + true + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    for step in range(num_steps):
        places = np.searchsorted(recall[step], rules.recall_thresholds, side="left")
        inside = places < len(scores)
        sampled[step, inside] = precision[step, places[inside]]
        reached[step, inside] = scores[places[inside]]
    return sampled, recall[:, -1], reached


def _pair_starts(keys: np.ndarray) -> np.ndarray:
    """Where runs of equal values begin, and the end."""
    if not len(keys):
        return np.zeros(1, np.int64)
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1], [True]]))


def _ordered(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """(N,) rows by category, image and score, and (K + 1,) where each category begins."""
    columns = problem.detections
    order = np.lexsort((-columns.scores, columns.images, columns.categories))
    edges = np.searchsorted(columns.categories[order], np.arange(problem.num_categories + 1))
    return order[edges[0] :], edges - edges[0]


def _to_bits(steps: np.ndarray) -> np.ndarray:
    """(A, T, D) bool -> (D, A) int32, one bit per threshold."""
    weights = 1 << np.arange(steps.shape[1], dtype=np.int64)
    return np.einsum("atd,t->da", steps, weights).astype(np.uint32).view(np.int32)


def match(problem: Problem, *, keep_matches: bool = False) -> Outcomes:
    """Matches with NumPy; see `core.match`."""
    rules, columns, boxes = problem.rules, problem.detections, _Boxes(problem)
    wanted = ~problem.gt_ignored & ~outside_ranges(problem.gt_areas, rules)
    num_boxes = [np.bincount(problem.gt_categories[w], minlength=boxes.count) for w in wanted]
    rows, edges = _ordered(problem)
    ends, ranks = edges[1:].copy(), np.zeros(len(rows), np.int32)
    masks = np.zeros((len(rows), len(rules.area_ranges), 2), np.int32)
    scores = np.zeros(len(rows))
    matches = np.full(len(columns), NOT_COUNTED) if keep_matches else None
    hide = boxes.count < _MANY_CATEGORIES
    for category in tqdm(range(boxes.count), "matching", mininterval=5, disable=hide):
        dets = rows[edges[category] : edges[category + 1]]
        starts = _pair_starts(columns.images[dets])
        rank = np.arange(len(dets)) - np.repeat(starts[:-1], np.diff(starts))
        dets, rank = dets[rank < rules.max_dets[-1]], rank[rank < rules.max_dets[-1]]
        starts = _pair_starts(columns.images[dets])
        hit, skipped, matched = _match_category(problem, boxes, category, dets, starts)
        ends[category] = edges[category] + len(dets)
        here = slice(edges[category], ends[category])
        ranks[here], scores[here] = rank, columns.scores[dets]
        masks[here, :, 0], masks[here, :, 1] = _to_bits(hit), _to_bits(skipped)
        if matches is not None:
            matches[dets] = matched
    return Outcomes(
        starts=edges[:-1],
        ends=ends,
        scores=scores,
        ranks=ranks,
        codes=np.arange(len(rows), dtype=np.int32),
        masks=masks,
        num_boxes=np.stack(num_boxes, axis=1),
        matches=matches,
    )


def accumulate(outcomes: Outcomes, rules: Rules, *, keep_all: bool = False) -> Curves:
    """Accumulates with NumPy; see `core.accumulate`."""
    num_categories = len(outcomes.starts)
    axes = (num_categories, len(rules.area_ranges))
    recall = np.full((*axes, len(rules.max_dets), len(rules.iou_thresholds)), -1.0)
    limits = len(rules.max_dets) if keep_all else 1
    shape = (*axes, limits, len(rules.iou_thresholds), len(rules.recall_thresholds))
    precision = np.full(shape, -1.0)
    scores = np.full(shape, -1.0) if keep_all else None
    steps = np.arange(len(rules.iou_thresholds))[:, None]
    for category in range(num_categories):
        here = slice(outcomes.starts[category], outcomes.ends[category])
        of_score = outcomes.scores[here]
        order = np.argsort(-of_score, kind="stable")
        ranks, codes = outcomes.ranks[here][order], outcomes.codes[here][order]
        for area in np.flatnonzero(outcomes.num_boxes[category]):
            bits = outcomes.masks[codes, area]
            hit, skipped = (bits[:, part] >> steps & 1 != 0 for part in (0, 1))
            for place, limit in enumerate(rules.max_dets):
                chosen = ranks < limit
                at = (category, area, place if keep_all else 0)  # the last limit stays
                precision[at], recall[category, area, place], reached = _curve(
                    hit[:, chosen],
                    skipped[:, chosen],
                    of_score[order[chosen]],
                    int(outcomes.num_boxes[category, area]),
                    rules,
                )
                if scores is not None:
                    scores[at] = reached
    return Curves(precision, recall, scores)
