"""Reads annotation files in COCO's form (COCO, LVIS, V3Det, EmojiDet) into columns."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..structures import RaggedIndex
from .columns import UNKNOWN, GroundTruth, rank_in

try:
    import orjson
except ImportError:  # slower, the same result
    orjson = None

_LOGGER = logging.getLogger(__name__)
_TABLES = ("images", "annotations", "categories")
Row = Mapping[str, Any]


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Millions of new objects would be searched for cycles again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def parse_json(text: bytes | bytearray) -> Any:
    """The fastest parser at hand; what it refuses goes to the standard one, which takes NaN.

    Raises:
        ValueError: no JSON; with the position.
    """
    if orjson is not None:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # the standard parser decides, and its message has the position
    return json.loads(text.decode("utf-8-sig"))


def load_ground_truth(path: str | Path) -> GroundTruth:
    """Reads an annotation file.

    Absent ``iscrowd`` and ``ignore`` are 0, an absent ``area`` is width x height. Boxes of images
    or categories that the file does not list are left out with a warning. Where an id is used for
    several annotations, the last of them stands for all, as in the originals, with a warning.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no annotation file, or has boxes that are not finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such annotation file: {path}")
    with without_garbage_collection():
        try:
            content = parse_json(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is no valid JSON (cut short?): {error}") from error
        return ground_truth_from(content, str(path))


def ground_truth_from(content: Any, source: str) -> GroundTruth:
    """The columns of an annotation file's content; see `load_ground_truth`.

    Args:
        content: with the tables images, annotations and categories.
        source: what to call it in messages.

    Raises:
        ValueError: tables or entries are missing, or boxes are not finite numbers.
    """
    found = content if isinstance(content, dict) else {}
    if missing := [name for name in _TABLES if not isinstance(found.get(name), list)]:
        raise ValueError(f"{source} is no annotation file: it lacks the lists {missing}")
    try:
        return _columns(content, source)
    except KeyError as error:
        raise ValueError(f"{source} is no annotation file: an entry lacks {error}") from error


def _by_id(rows: Sequence[Row], source: str, table: str) -> dict[int, Row]:
    """Rows by ascending id; the last one where an id is repeated."""
    found = {row["id"]: row for row in rows}
    if strange := [key for key in found if not isinstance(key, int)]:
        raise ValueError(f"{source}: ids of {table} must be integers, got {strange[:5]}")
    if len(found) < len(rows):
        _LOGGER.warning(
            "%s: %d ids of %s are repeated; the last entry counts",
            source,
            len(rows) - len(found),
            table,
        )
    return {key: found[key] for key in sorted(found)}


def _columns(content: Mapping[str, Any], source: str) -> GroundTruth:
    images = _by_id(content["images"], source, "images")
    categories = _by_id(content["categories"], source, "categories")
    image_ids = np.fromiter(images, np.int64, len(images))
    category_ids = np.fromiter(categories, np.int64, len(categories))
    annotations = content["annotations"]
    count = len(annotations)
    of_image = rank_in(image_ids, _integers(annotations, "image_id", source))
    of_category = rank_in(category_ids, _integers(annotations, "category_id", source))
    ids = [row["id"] for row in annotations]
    boxes = _boxes(annotations, source)
    area = boxes[:, 2] * boxes[:, 3]
    given = [row.get("area") for row in annotations]
    areas = [w if a is None else a for a, w in zip(given, area.tolist(), strict=True)]
    if 0 in ids:
        _LOGGER.warning(
            "%s: the annotation with the id 0 can never be found, as in pycocotools; number the "
            "annotations from 1",
            source,
        )
    rows = _rows_to_keep(ids, of_image, of_category, source)
    truth = GroundTruth(
        image_ids=image_ids,
        category_ids=category_ids,
        names=tuple(str(row.get("name", f"category {key}")) for key, row in categories.items()),
        images=of_image,
        categories=of_category,
        boxes_xywh_abs=boxes,
        areas=np.array(areas, np.float64).reshape(count),
        crowd=np.array([row.get("iscrowd") for row in annotations], bool),
        ignore=np.array([row.get("ignore") for row in annotations], bool),
        zero_id=np.array([key == 0 for key in ids], bool),
        negatives=_category_lists(images, "neg_category_ids", category_ids),
        not_exhaustive=_category_lists(images, "not_exhaustive_category_ids", category_ids),
        frequency=_per_category(categories, "frequency"),
        novel=_novel(categories),
    )
    return truth.take_boxes(rows)


def _integers(rows: Sequence[Row], key: str, source: str) -> np.ndarray:
    """(N,) int64 ids."""
    values = np.array([row[key] for row in rows])
    if not len(values):
        return np.zeros(0, np.int64)
    if values.dtype.kind not in "iuf" or (values != np.trunc(values)).any():
        raise ValueError(f"{source}: {key} must be integers, got {values[:3].tolist()} ...")
    return values.astype(np.int64)


def _boxes(annotations: Sequence[Row], source: str) -> np.ndarray:
    """(G, 4) float64."""
    try:
        boxes = np.array([row["bbox"] for row in annotations], np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: bbox must be four numbers: {error}") from error
    boxes = boxes.reshape(-1, 4)
    if len(boxes) != len(annotations):
        raise ValueError(f"{source}: bbox must be four numbers [left, top, width, height]")
    if (bad := ~np.isfinite(boxes).all(1)).any():
        ids = [annotations[row]["id"] for row in np.flatnonzero(bad)[:5]]
        raise ValueError(f"{source}: {bad.sum()} boxes are not finite, of the annotations {ids}")
    return boxes


def _rows_to_keep(
    ids: Sequence[int], of_image: np.ndarray, of_category: np.ndarray, source: str
) -> np.ndarray:
    """(G,) rows by image, as the originals list them."""
    known = (of_image != UNKNOWN) & (of_category != UNKNOWN)
    if not known.all():
        _LOGGER.warning(
            "%s: %d boxes are of images or categories that it does not list; they are left out",
            source,
            (~known).sum(),
        )
    last = {key: row for row, key in enumerate(ids)}
    order = np.argsort(of_image, kind="stable")
    rows = order[known[order]]
    if len(last) == len(ids):
        return rows
    _LOGGER.warning(
        "%s: %d annotation ids are repeated; as in pycocotools the last annotation of an id "
        "stands for all of them",
        source,
        len(ids) - len(last),
    )
    rows = np.array([last[ids[row]] for row in rows], np.int64)
    rows = rows[known[rows]]
    return rows[np.argsort(of_image[rows], kind="stable")]


def _category_lists(
    images: Mapping[int, Row], key: str, category_ids: np.ndarray
) -> RaggedIndex | None:
    """For each image the known categories of one of LVIS' lists; None if an image lacks it."""
    if not images or any(key not in row for row in images.values()):
        return None
    rank = {int(dataset_id): place for place, dataset_id in enumerate(category_ids)}
    return RaggedIndex.from_rows(
        [[rank[one] for one in row[key] if one in rank] for row in images.values()]
    )


def _per_category(categories: Mapping[int, Row], key: str) -> tuple[str, ...] | None:
    if not categories or any(key not in row for row in categories.values()):
        return None
    return tuple(str(row[key]) for row in categories.values())


def _novel(categories: Mapping[int, Row]) -> np.ndarray | None:
    if not categories or any("novel" not in row for row in categories.values()):
        return None
    return np.fromiter((bool(row["novel"]) for row in categories.values()), bool)
