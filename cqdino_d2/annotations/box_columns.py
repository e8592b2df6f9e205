"""The boxes of annotation files: as the file gives them, and as a training takes them."""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from .ids import UNKNOWN, Id, rows_of
from .image_rows import AnyId, Number

CROWD, IGNORE, ZERO_ID = 1, 2, 4
_EVENTS = ("not finite", "zero or negative size", "outside the image", "clipped")


class AnnotationRow(msgspec.Struct, gc=False):
    """What is read of an annotation object; other fields (segmentations) are skipped."""

    image_id: AnyId
    category_id: AnyId
    bbox: tuple[float, float, float, float]
    id: AnyId | None = None
    iscrowd: Number | bool | None = 0
    ignore: Number | bool | None = None
    area: float | None = None


def clip_boxes(boxes_xywh: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clips boxes to their image.

    Args:
        boxes_xywh: (N, 4) in pixels.
        sizes: (N, 2) height and width of each box's image; 0 where they are not known.

    Returns:
        (N, 4) float64 boxes inside their images, and (N,) what happened: -1 nothing, 3 clipped,
        0..2 why it is no box (not finite, zero or negative size, outside the image).
    """
    limits = np.where(sizes > 0, sizes, np.inf)[:, ::-1]
    starts, ends = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    clipped_starts, clipped_ends = np.maximum(starts, 0.0), np.minimum(ends, limits)
    changed = ((clipped_starts != starts) | (clipped_ends != ends)).any(axis=1)
    with np.errstate(invalid="ignore"):  # of boxes that are not finite
        clipped = np.concatenate([clipped_starts, clipped_ends - clipped_starts], axis=1)
    reasons = [
        ~np.isfinite(boxes_xywh).all(axis=1),
        (boxes_xywh[:, 2:] <= 0).any(axis=1),
        (clipped[:, 2:] <= 0).any(axis=1),
        changed,
    ]
    return np.where(changed[:, None], clipped, boxes_xywh), np.select(reasons, range(4), -1)


def event_names(events: np.ndarray) -> np.ndarray:
    """(N,) texts: what `clip_boxes` says happened to each box, '' where nothing did."""
    return np.asarray((*_EVENTS, ""))[events]


def _clip_where_needed(boxes_xywh: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `clip_boxes`; looks twice only at boxes that do not plainly lie in their image."""
    x, y, w, h = boxes_xywh.T
    height, width = sizes.T
    with np.errstate(invalid="ignore"):  # of boxes that are not finite
        inside = (x >= 0) & (y >= 0) & (w > 0) & (h > 0) & (x + w <= width) & (y + h <= height)
    rows = np.flatnonzero(~inside)
    events = np.full(len(boxes_xywh), -1)
    clipped = boxes_xywh
    if len(rows):
        clipped = boxes_xywh.copy()
        clipped[rows], events[rows] = clip_boxes(boxes_xywh[rows], sizes[rows])
    return clipped, events


def _unlisted(rows: np.ndarray, annotations: Sequence[AnnotationRow], field: str) -> list[Any]:
    """[how many, the first annotation's id, the id that is not listed] or nothing."""
    missing = np.flatnonzero(rows == UNKNOWN)
    if not len(missing):
        return []
    first = annotations[int(missing[0])]
    return [len(missing), first.id, getattr(first, field)]


def _values(annotations: Sequence[AnnotationRow], field: str) -> list[Any]:
    """One field of all rows; millions of them, so without a loop in Python."""
    return list(map(operator.attrgetter(field), annotations))


def _numbering(annotations: Sequence[AnnotationRow]) -> tuple[np.ndarray, int]:
    """(N,) bool: the id is 0; and how many ids stand for several annotations.

    Where ids are repeated the annotations are numbered anew from 1 on, so that none is 0.
    """
    ids = _values(annotations, "id")
    distinct = set(ids)
    repeated = len(ids) - len(distinct)
    if None in distinct:
        repeated -= ids.count(None) - 1
    if repeated or 0 not in distinct:
        return np.zeros(len(ids), bool), repeated
    return np.fromiter((one == 0 for one in ids), bool, len(ids)), 0


def _offsets(rows: np.ndarray, count: int) -> np.ndarray:
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=count), out=offsets[1:])
    return offsets


def _areas(annotations: Sequence[AnnotationRow], boxes_xywh: np.ndarray) -> np.ndarray:
    """(N,) float64 the stated areas, width x height where there is none."""
    stated = _values(annotations, "area")
    areas = np.asarray(stated, dtype=np.float64)  # None becomes NaN
    if not np.isnan(areas).any():
        return areas
    with np.errstate(invalid="ignore"):  # of boxes that are not finite
        sides = boxes_xywh[:, 2] * boxes_xywh[:, 3]
    absent = np.fromiter((area is None for area in stated), bool, len(stated))
    return np.where(absent, sides, areas)


def _flags(annotations: Sequence[AnnotationRow], zero_id: np.ndarray) -> np.ndarray:
    flags = np.zeros(len(annotations), np.uint8)
    for field, flag in (("iscrowd", CROWD), ("ignore", IGNORE)):
        truths = map(bool, _values(annotations, field))
        flags += np.fromiter(truths, np.uint8, len(annotations)) * np.uint8(flag)
    return flags + zero_id.astype(np.uint8) * ZERO_ID


def box_columns(
    annotations: Sequence[AnnotationRow],
    image_rows: Mapping[Id, int],
    category_rows: Mapping[Id, int],
    sizes: np.ndarray,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The boxes, image by image and then in the file's order.

    Args:
        annotations: of the file.
        image_rows: row of each of the I images.
        category_rows: ``vocab_id`` of each category.
        sizes: (I, 2) height and width, 0: not known.

    Returns:
        As the file gives them, but for those of unlisted images or categories: 'given_offsets'
        (I + 1,), 'given_boxes' (G, 4) float64 XYWH_ABS, 'given_areas' float64 (width x height
        where it has none), 'given_categories' (``vocab_id``), 'given_flags'. As a training takes
        them, clipped to their image and without those that are not finite, empty or wholly
        outside: 'box_offsets', 'boxes_xywh' float32, 'vocab_ids', 'is_crowd'.

        Facts: 'annotations' (how many the file has), 'events' (how often each thing happened to
        a training's box), 'unlisted_images', 'unlisted_categories', 'repeated_ids',
        'zero_ids', 'endless_boxes' (how many are not finite, and the ids of some).
    """
    of_image = rows_of(_values(annotations, "image_id"), image_rows)
    of_category = rows_of(_values(annotations, "category_id"), category_rows)
    flat = itertools.chain.from_iterable(_values(annotations, "bbox"))
    boxes = np.fromiter(flat, dtype=np.float64, count=4 * len(annotations)).reshape(-1, 4)
    areas = _areas(annotations, boxes)
    zero_id, repeated = _numbering(annotations)
    flags = _flags(annotations, zero_id)
    listed = np.flatnonzero((of_image != UNKNOWN) & (of_category != UNKNOWN))
    order = listed[np.argsort(of_image[listed], kind="stable")]
    rows, boxes, flags = of_image[order], boxes[order], flags[order]
    clipped, events = _clip_where_needed(boxes, sizes[rows])
    endless = order[events == _EVENTS.index("not finite")]
    kept = np.flatnonzero((events < 0) | (events == 3))
    columns = {
        "given_offsets": _offsets(rows, len(sizes)),
        "given_boxes": boxes,
        "given_areas": areas[order],
        "given_categories": of_category[order],
        "given_flags": flags,
        "box_offsets": _offsets(rows[kept], len(sizes)),
        "boxes_xywh": clipped[kept].astype(np.float32),
        "vocab_ids": of_category[order[kept]],
        "is_crowd": flags[kept] & CROWD != 0,
    }
    facts = {
        "annotations": len(annotations),
        "events": dict(Counter(_EVENTS[event] for event in events[events >= 0].tolist())),
        "unlisted_images": _unlisted(of_image, annotations, "image_id"),
        "unlisted_categories": _unlisted(of_category, annotations, "category_id"),
        "repeated_ids": repeated,
        "zero_ids": int(zero_id.sum()),
        "endless_boxes": [len(endless), [annotations[row].id for row in endless[:5].tolist()]],
    }
    return columns, facts
