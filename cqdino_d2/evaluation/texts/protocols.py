"""Referring expressions, generalised ones and phrases: which figures each of them has.

All figures are in 0..100, nan where there is nothing to be found. A text that was not predicted
counts as missed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from ...annotations.grounded_texts import EXPRESSIONS, GENERALIZED, PHRASES, GroundedTexts
from ..columns import Detections
from ..reference import pairwise_iou

_LOGGER = logging.getLogger(__name__)
_NEVER = np.iinfo(np.int64).max

TaskFigures = Mapping[str, dict[str, float]]


class TextProtocol(Protocol):
    """A way to score what was found for texts."""

    def evaluate(
        self, texts: GroundedTexts, detections: Detections, predicted: np.ndarray
    ) -> TaskFigures:
        """For each task its figures.

        Args:
            texts: the I texts.
            detections: 'images' are rows of the texts, 'categories' the things of a text.
            predicted: (I,) bool, which texts were predicted at all.
        """

    def check(self, texts: GroundedTexts, source: str) -> None:
        """Warns of figures that these texts leave out."""


def text_protocol(kind: str) -> TextProtocol:
    """The protocol of a kind of texts.

    Raises:
        ValueError: no such kind.
    """
    kinds = {
        EXPRESSIONS: ExpressionProtocol,
        GENERALIZED: GeneralizedProtocol,
        PHRASES: PhraseProtocol,
    }
    if kind not in kinds:
        raise ValueError(f"texts are of the kinds {', '.join(kinds)}, got {kind!r}")
    return kinds[kind]()


def first_hits(
    texts: GroundedTexts, detections: Detections, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """How far down a thing's detections the first one stands that hits any of its boxes.

    A detection is compared with the boxes of its own thing only. Of equal scores the first in the
    given order stands first.

    Args:
        texts: what is to be found.
        detections: what was found.
        iou: the least IoU of a hit.

    Returns:
        (P,) the text of each of the P things with boxes, and (P,) int64 the place of its first
        hit, 0 the best detection; the largest int64 where there is none.
    """
    width = int(texts.num_things().max(initial=1))
    box_rows = np.repeat(np.arange(len(texts)), np.diff(texts.box_offsets))
    box_keys = box_rows * width + texts.box_phrases
    box_order = np.argsort(box_keys, kind="stable")
    things, starts, counts = np.unique(box_keys[box_order], return_index=True, return_counts=True)
    keys = detections.images.astype(np.int64) * width + detections.categories
    order = np.lexsort((-detections.scores, keys))
    keys = keys[order]
    first_of_key = np.searchsorted(keys, things)
    ends = np.searchsorted(keys, things, side="right")
    found = np.full(len(things), _NEVER)
    boxes = detections.boxes_xywh_abs[order].astype(np.float64)
    for thing, (begin, end) in enumerate(zip(first_of_key, ends, strict=True)):
        own = box_order[starts[thing] : starts[thing] + counts[thing]]
        overlaps = _iou(boxes[begin:end], texts.boxes_xywh[own])
        hits = np.flatnonzero((overlaps >= iou).any(axis=1))
        if len(hits):
            found[thing] = hits[0]
    return things // width, found


def _iou(found_xywh: np.ndarray, wanted_xywh: np.ndarray) -> np.ndarray:
    """(D, G) IoU; 0 with a box that has no area."""
    return pairwise_iou(found_xywh, wanted_xywh, np.zeros(len(wanted_xywh), bool))


def _share(hits: np.ndarray) -> float:
    return float(100 * hits.mean()) if len(hits) else float("nan")


def _recalls(places: np.ndarray, limits: Sequence[int]) -> dict[str, float]:
    return {f"recall@{limit}": _share(places < limit) for limit in limits}


@dataclass(frozen=True)
class ExpressionProtocol:
    """RefCOCO, RefCOCO+, RefCOCOg: an expression is found where one of the best boxes hits its box.

    Each dataset that the file has is a task with ``recall@1``, ``recall@5`` and ``recall@10``; the
    task ``refexp`` is their plain mean over these datasets, and ``sets`` how many they are.

    Attributes:
        limits: how many of the best boxes are looked at.
        iou: the least IoU of a hit.
    """

    kind: ClassVar[str] = EXPRESSIONS
    limits: tuple[int, ...] = (1, 5, 10)
    iou: float = 0.5

    def evaluate(
        self, texts: GroundedTexts, detections: Detections, predicted: np.ndarray
    ) -> TaskFigures:
        """See the class and `TextProtocol.evaluate`."""
        rows, places = first_hits(texts, detections, self.iou)
        names = np.array(texts.dataset_names)[rows]
        tasks = {
            name: _recalls(places[names == name], self.limits)
            for name in sorted(set(texts.dataset_names))
        }
        mean = {
            figure: float(np.mean([figures[figure] for figures in tasks.values()]))
            for figure in _recalls(places, self.limits)
        }
        return tasks | {EXPRESSIONS: mean | {"sets": float(len(tasks))}}

    def check(self, texts: GroundedTexts, source: str) -> None:
        """A file may hold any of the three datasets."""


@dataclass(frozen=True)
class GeneralizedProtocol:
    """gRefCOCO: an expression may have no target, one or several.

    Only boxes with a high enough score count. ``Pr@F1`` is the share of texts whose boxes are
    exactly the wanted ones, one to one (F1 = 1; without a target: no box), ``N-acc`` the share of
    texts without a target that got no box, ``T-acc`` that of texts with targets that got one.
    All boxes of a text are wanted; MMDetection's metric compares with the first one alone.

    Attributes:
        score: the least that counts.
        iou: the least IoU of a pair.
    """

    kind: ClassVar[str] = GENERALIZED
    score: float = 0.7
    iou: float = 0.5

    def evaluate(
        self, texts: GroundedTexts, detections: Detections, predicted: np.ndarray
    ) -> TaskFigures:
        """See the class and `TextProtocol.evaluate`."""
        kept = detections.take(detections.scores >= self.score)
        kept = kept.take(np.argsort(kept.images, kind="stable"))
        offsets = np.searchsorted(kept.images, np.arange(len(texts) + 1))
        given = np.diff(offsets)
        wanted = np.diff(texts.box_offsets)
        exact = predicted & (given == wanted)
        for row in np.flatnonzero(exact & (wanted > 0)).tolist():
            found = kept.boxes_xywh_abs[offsets[row] : offsets[row + 1]].astype(np.float64)
            start, end = texts.box_offsets[row : row + 2]
            pairs = greedy_pairs(_iou(found, texts.boxes_xywh[start:end]), self.iou)
            exact[row] = pairs == wanted[row]
        without = wanted == 0
        figures = {
            "Pr@F1": _share(exact),
            "N-acc": _share((predicted & (given == 0))[without]),
            "T-acc": _share((given > 0)[~without]),
        }
        return {GENERALIZED: figures}

    def check(self, texts: GroundedTexts, source: str) -> None:
        """Warns where there are no texts of one kind."""
        without = np.diff(texts.box_offsets) == 0
        for absent, kind, figure in (
            (not without.any(), "without a target", "N-acc"),
            (bool(without.all()), "with a target", "T-acc"),
        ):
            if absent:
                _LOGGER.warning("%s has no text %s: there is no %s", source, kind, figure)


def greedy_pairs(overlaps: np.ndarray, least: float) -> int:
    """How many pairs are made one to one, the best IoU first.

    Args:
        overlaps: (D, G) IoU.
        least: IoU of a pair.
    """
    rows, columns = np.nonzero(overlaps >= least)
    order = np.argsort(-overlaps[rows, columns], kind="stable")
    free_rows, free_columns = (np.ones(size, bool) for size in overlaps.shape)
    pairs = 0
    for row, column in zip(rows[order], columns[order], strict=True):
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs += 1
    return pairs


@dataclass(frozen=True)
class PhraseProtocol:
    """Flickr30k Entities: a phrase is found where one of its best boxes hits any of its boxes.

    Figures are ``recall@1``, ``recall@5``, ``recall@10`` and, with all boxes of the phrase,
    ``recall@all``; over all phrases of all sentences that have a box.

    Attributes:
        limits: how many of a phrase's best boxes are looked at.
        iou: the least IoU of a hit.
    """

    kind: ClassVar[str] = PHRASES
    limits: tuple[int, ...] = (1, 5, 10)
    iou: float = 0.5

    def evaluate(
        self, texts: GroundedTexts, detections: Detections, predicted: np.ndarray
    ) -> TaskFigures:
        """See the class and `TextProtocol.evaluate`."""
        _, places = first_hits(texts, detections, self.iou)
        figures = _recalls(places, self.limits) | {"recall@all": _share(places < _NEVER)}
        return {PHRASES: figures}

    def check(self, texts: GroundedTexts, source: str) -> None:
        """Warns where no phrase has a box."""
        if not len(texts.boxes_xywh):
            _LOGGER.warning("%s has no box: there is no recall", source)
