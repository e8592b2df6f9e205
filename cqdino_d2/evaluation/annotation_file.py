"""The ground truth of annotation files in COCO's form (COCO, LVIS, V3Det, EmojiDet)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..annotations.box_columns import CROWD, IGNORE, ZERO_ID
from ..annotations.cache import load_annotations
from ..annotations.coco_format import columns_of
from ..annotations.columns import Annotations
from ..annotations.ids import id_array, in_order
from ..annotations.law import refuse_for_scoring
from ..annotations.vocabularies import category_name
from ..structures import RaggedIndex
from .columns import GroundTruth


def load_ground_truth(path: str | Path) -> GroundTruth:
    """Reads an annotation file, from its cache where there is one; none is written.

    Absent ``iscrowd`` and ``ignore`` are 0, an absent ``area`` is width x height. Boxes of images
    or categories that the file does not list are left out with a warning. Where an id is used for
    several annotations all are numbered anew, with a warning.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no annotation file, or has boxes that are not finite numbers.
    """
    return ground_truth_of(load_annotations(path, keep=False), str(path))


def ground_truth_from(content: Any, source: str) -> GroundTruth:
    """The columns of an annotation file's content, which is not changed; see `load_ground_truth`.

    Args:
        content: with the tables images, annotations and categories.
        source: what to call it in messages.

    Raises:
        ValueError: entries are missing, or boxes are not finite numbers.
    """
    return ground_truth_of(Annotations(*columns_of(content, source)), source)


def ground_truth_of(annotations: Annotations, source: str) -> GroundTruth:
    """The ground truth of an annotation file that is read already.

    Args:
        annotations: of the file.
        source: what to call it in messages.

    Raises:
        ValueError: boxes that are not finite numbers.
    """
    refuse_for_scoring(annotations.facts, source)
    columns, categories = annotations.columns, annotations.categories()
    image_ids, order = _ascending(annotations.image_ids())
    counts = np.diff(columns["given_offsets"])
    flags = columns["given_flags"]
    truth = GroundTruth(
        image_ids=image_ids,
        category_ids=id_array(annotations.category_ids),
        names=tuple(map(category_name, categories)),
        images=np.repeat(np.arange(len(counts), dtype=np.int32), counts[order]),
        categories=columns["given_categories"],
        boxes_xywh_abs=columns["given_boxes"],
        areas=columns["given_areas"],
        crowd=flags & CROWD != 0,
        ignore=flags & IGNORE != 0,
        zero_id=flags & ZERO_ID != 0,
        negatives=_image_lists(annotations, "neg_category_ids", order),
        not_exhaustive=_image_lists(annotations, "not_exhaustive_category_ids", order),
        frequency=_per_category(categories, "frequency"),
        novel=_novel(categories),
        annotated=annotations.facts["annotated"],
    )
    if (order[1:] > order[:-1]).all():
        return truth
    rows = RaggedIndex(columns["given_offsets"], np.arange(len(flags))).take(order).indices
    return truth.take_boxes(rows, images=truth.images)


def _ascending(image_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids in their order, and their rows."""
    if image_ids.dtype == object:
        order = np.asarray(in_order(image_ids.tolist()), dtype=np.int64)
    else:
        order = np.argsort(image_ids, kind="stable")
    return image_ids[order], order


def _image_lists(annotations: Annotations, name: str, order: np.ndarray) -> RaggedIndex | None:
    """For each image the known categories of one of LVIS' lists; None if an image lacks it."""
    found = annotations.image_list(name)
    if found is None or name not in annotations.facts["complete_lists"]:
        return None
    return found.take(order)


def _per_category(categories: list[dict[str, Any]], key: str) -> tuple[str, ...] | None:
    if not categories or any(key not in row for row in categories):
        return None
    return tuple(str(row[key]) for row in categories)


def _novel(categories: list[dict[str, Any]]) -> np.ndarray | None:
    if not categories or any("novel" not in row for row in categories):
        return None
    return np.fromiter((bool(row["novel"]) for row in categories), bool)
