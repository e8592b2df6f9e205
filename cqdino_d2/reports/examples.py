"""What a report shows: images and errors, which categories are confused, AP by branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation import JudgedDetections, Report
from ..evaluation.error_breakdown import HIT, KINDS, MISS
from ..structures import CategoryHierarchy

NOTHING = -1
SIBLING = KINDS.index("confusion_sibling")
CONFUSIONS = tuple(place for place, kind in enumerate(KINDS) if kind in (
    "confusion_sibling", "confusion_ancestor", "confusion_other",
))  # fmt: skip


@dataclass(frozen=True)
class ImageScores:
    """What the detections above the threshold are worth in each of the I images.

    Attributes:
        hits: (I,) boxes that were found.
        false_positives: (I,).
        missed: (I,) boxes to find that were not.
    """

    hits: np.ndarray
    false_positives: np.ndarray
    missed: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """(I,) 0..1, NaN where there is nothing to find and nothing was found."""
        errors = self.false_positives + self.missed
        total = 2 * self.hits + errors
        return np.divide(2 * self.hits, total, out=np.full(len(total), np.nan), where=total > 0)


def missed_rows(judged: JudgedDetections) -> np.ndarray:
    """(M,) rows of the boxes to find that nothing hits, whatever errors are about them."""
    return np.flatnonzero(~judged.problem.gt_ignored & ~judged.hit_boxes())


def score_images(judged: JudgedDetections, num_images: int) -> ImageScores:
    """Counts the hits and errors of each image.

    Args:
        judged: the detections above the threshold.
        num_images: I.
    """
    missed = judged.problem.gt_images[missed_rows(judged)]
    return ImageScores(
        hits=np.bincount(judged.images[judged.status == HIT], minlength=num_images),
        false_positives=np.bincount(judged.images[judged.status == MISS], minlength=num_images),
        missed=np.bincount(missed, minlength=num_images),
    )


def worst_and_best(scores: ImageScores, count: int) -> tuple[list[int], list[int]]:
    """Images by ascending and by descending F1; none is in both lists.

    Of equals the worst are those with the most errors, the best those with the most hits.
    """
    f1, errors = scores.f1, scores.false_positives + scores.missed
    known = np.flatnonzero(~np.isnan(f1))
    worst_first = known[np.lexsort((known, -errors[known], f1[known]))]
    worst = worst_first[:count].tolist()
    rest = worst_first[count:]
    best = rest[np.lexsort((rest, -scores.hits[rest], -f1[rest]))][:count].tolist()
    return worst, best


@dataclass(frozen=True)
class Example:
    """One error to show.

    Attributes:
        image: its place among the images.
        detection: row of the judged detections, -1 for a missed box.
        box: row of the problem's box that it is about, -1 if it is about none.
    """

    image: int
    detection: int
    box: int


def examples_of_kind(judged: JudgedDetections, kind: str, count: int) -> list[Example]:
    """The most confident errors of one kind (of missed boxes the largest), one an image."""
    if kind == "missed":
        rows = judged.missed_boxes()
        problem = judged.problem
        order = rows[np.argsort(-problem.gt_areas[rows], kind="stable")]
        images = problem.gt_images[order]
        pairs = [(NOTHING, row) for row in order.tolist()]
    else:
        rows = np.flatnonzero(judged.kinds == KINDS.index(kind))
        order = rows[np.argsort(-judged.scores[rows], kind="stable")]
        images = judged.images[order]
        pairs = list(zip(order.tolist(), judged.boxes[order].tolist(), strict=True))
    _, first = np.unique(images, return_index=True)
    return [Example(int(images[i]), *pairs[i]) for i in np.sort(first)[:count].tolist()]


def worst_categories(report: Report, count: int) -> list[int]:
    """Categories with boxes by ascending AP; of equals those with the most boxes."""
    ap, boxes = report.per_category.figures["AP"], report.per_category.num_boxes
    rows = np.flatnonzero(boxes > 0)
    return rows[np.lexsort((rows, -boxes[rows], ap[rows]))][:count].tolist()


def images_of_category(judged: JudgedDetections, category: int, count: int) -> list[int]:
    """The images with the most errors of a category: false positives and boxes not found."""
    problem = judged.problem
    wrong = judged.images[(judged.categories == category) & (judged.status == MISS)]
    rows = missed_rows(judged)
    missed = problem.gt_images[rows[problem.gt_categories[rows] == category]]
    images, errors = np.unique(np.concatenate([wrong, missed]), return_counts=True)
    return images[np.argsort(-errors, kind="stable")][:count].tolist()


@dataclass(frozen=True)
class Confusions:
    """P pairs of categories that were taken for each other, the most frequent first.

    Attributes:
        true: (P,) the category of the box.
        predicted: (P,).
        kinds: (P,) place in `KINDS`.
        counts: (P,) detections.
    """

    true: np.ndarray
    predicted: np.ndarray
    kinds: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, judged: JudgedDetections) -> Confusions:
        """Counts the confusions of judged detections."""
        rows = np.flatnonzero(np.isin(judged.kinds, CONFUSIONS))
        true = judged.problem.gt_categories[judged.boxes[rows]]
        triples = np.stack([true, judged.categories[rows], judged.kinds[rows]], 1)
        found, counts = np.unique(triples, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return cls(*found[order].T.reshape(3, -1), counts[order])


@dataclass(frozen=True)
class SiblingGroup:
    """The children of one node that are taken for each other most often.

    Attributes:
        parent: node.
        confusions: detections with the category of a sibling, of all children.
        categories: n children, the most confused first.
        matrix: (n, n) detections: row the true category, column the predicted one; the diagonal
            has the hits.
    """

    parent: int
    confusions: int
    categories: list[int]
    matrix: np.ndarray


def sibling_groups(
    judged: JudgedDetections,
    confusions: Confusions,
    hierarchy: CategoryHierarchy,
    *,
    groups: int,
    size: int,
) -> list[SiblingGroup]:
    """The families with the most confusions among siblings.

    Args:
        judged: the detections above the threshold.
        confusions: of them.
        hierarchy: the category tree.
        groups: N; at most N families.
        size: N; at most N children of each.
    """
    hits = np.bincount(judged.categories[judged.status == HIT], minlength=hierarchy.num_categories)
    pairs_of: dict[int, list[tuple[int, int, int]]] = {}
    rows = np.flatnonzero(confusions.kinds == SIBLING)
    columns = (confusions.true[rows], confusions.predicted[rows], confusions.counts[rows])
    for true, predicted, count in zip(*(c.tolist() for c in columns), strict=True):
        common = set(hierarchy.parents[true].tolist()) & set(hierarchy.parents[predicted].tolist())
        pairs_of.setdefault(min(common), []).append((true, predicted, count))
    totals = {parent: sum(count for *_, count in pairs) for parent, pairs in pairs_of.items()}
    chosen = sorted(totals, key=lambda parent: (-totals[parent], parent))[:groups]
    return [_group(parent, totals[parent], pairs_of[parent], hits, size) for parent in chosen]


def _group(
    parent: int, total: int, pairs: Sequence[tuple[int, int, int]], hits: np.ndarray, size: int
) -> SiblingGroup:
    involved: dict[int, int] = {}
    for true, predicted, count in pairs:
        for category in (true, predicted):
            involved[category] = involved.get(category, 0) + count
    categories = sorted(involved, key=lambda c: (-involved[c], c))[:size]
    place = {category: i for i, category in enumerate(categories)}
    matrix = np.diag(hits[categories])
    for true, predicted, count in pairs:
        if true in place and predicted in place:
            matrix[place[true], place[predicted]] += count
    return SiblingGroup(parent, total, categories, matrix)


@dataclass(frozen=True)
class Branches:
    """What lies in each of the N nodes of the tree and below it.

    Attributes:
        ap: (N,) mean AP of the categories with boxes, -1 of none.
        categories: (N,) how many categories; one that several paths reach counts once.
        measured: (N,) how many of them have boxes.
        boxes: (N,) boxes to find.
    """

    ap: np.ndarray
    categories: np.ndarray
    measured: np.ndarray
    boxes: np.ndarray


def branches_of(hierarchy: CategoryHierarchy, report: Report) -> Branches:
    """Sums each category's figures up into all nodes above it."""
    count = hierarchy.num_categories
    nodes, categories = [], []
    for category in range(count):
        seen, waiting = {category}, [category]
        while waiting:
            fresh = [p for p in hierarchy.parents[waiting.pop()].tolist() if p not in seen]
            seen.update(fresh)
            waiting += fresh
        nodes += sorted(seen)
        categories += [category] * len(seen)
    node, category = np.asarray(nodes, np.int64), np.asarray(categories, np.int64)
    ap, boxes = report.per_category.figures["AP"], report.per_category.num_boxes
    has_ap = ap[category] > -1

    def total(weights: np.ndarray) -> np.ndarray:
        return np.bincount(node, weights, minlength=hierarchy.num_nodes)

    measured = total(has_ap)
    mean = np.full(hierarchy.num_nodes, -1.0)
    np.divide(total(np.where(has_ap, ap[category], 0)), measured, out=mean, where=measured > 0)
    return Branches(
        ap=mean,
        categories=total(np.ones(len(node))).astype(int),
        measured=measured.astype(int),
        boxes=total(boxes[category]).astype(int),
    )
