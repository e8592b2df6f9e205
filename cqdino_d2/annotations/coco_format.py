"""Reads annotation files in the COCO format (COCO, V3Det, LVIS, EmojiDet) as columns."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .box_columns import AnnotationRow, box_columns
from .ids import UNKNOWN, Id, as_id, ids_as_columns, in_order, rows_of, spelling, text_columns
from .image_rows import ImageRow, file_name, pixels
from .json_file import convert, read_json_as, without_garbage_collection

logger = logging.getLogger(__name__)

_FORMAT = "in the COCO format"
IMAGE_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


class _Content(msgspec.Struct, gc=False):
    images: list[ImageRow] = []
    categories: list[dict[str, Any]] = []
    annotations: list[AnnotationRow] | None | msgspec.UnsetType = msgspec.UNSET


def checked_ids(source: str, table: str, values: Sequence[Any]) -> list[Id]:
    """Ids in the form in which they are kept.

    Raises:
        ValueError: one that is no whole number and no text; names the source and the table.
    """
    for value in values:
        if not isinstance(value, int | float | str) or isinstance(value, bool):
            raise ValueError(
                f"{source}: '{table}' must be a list of objects with an 'id' that is a whole "
                f"number or a text, got {value!r}"
            )
    try:
        return [as_id(value) for value in values]
    except ValueError as error:
        raise ValueError(f"{source}: {table}: {error}") from error


def distinct_rows(
    source: str, table: str, rows: list[Any], ids: list[Id]
) -> tuple[list[Any], list]:
    """Rows and ids without entries that only repeat another one.

    Raises:
        ValueError: entries with the same id that differ.
    """
    if len(set(ids)) == len(ids) and all(type(one) is int for one in ids):
        return rows, ids
    first: dict[str, int] = {}
    repeats, clashes = set(), []
    for place, one in enumerate(ids):
        before = first.setdefault(spelling(one), place)
        if before == place:
            continue
        repeats.add(place)
        if rows[before] != rows[place] or ids[before] != one:
            clashes.append(one)
    if clashes:
        raise ValueError(
            f"{source}: {table} ids are listed more than once, for different entries: "
            f"{clashes[:10]}"
        )
    if repeats:
        logger.warning("%s: %d %s entries are repeated", source, len(repeats), table)
    kept = [place for place in range(len(ids)) if place not in repeats]
    return [rows[place] for place in kept], [ids[place] for place in kept]


def _checked_categories(source: str, content: _Content) -> list[dict[str, Any]]:
    """The category objects by ascending id."""
    if not content.images and not content.categories:
        raise ValueError(f"{source} is not {_FORMAT}: it has no 'images' or 'categories'")
    ids = checked_ids(source, "categories", [row.get("id") for row in content.categories])
    rows, ids = distinct_rows(source, "category", content.categories, ids)
    if content.annotations and not rows:
        raise ValueError(f"{source}: 'categories' must be a list of objects, it is empty")
    return [rows[place] | {"id": ids[place]} for place in in_order(ids)]


def _list_columns(
    field: str, rows: Sequence[Sequence[Id]], category_rows: Mapping[Id, int]
) -> dict[str, np.ndarray]:
    """The known categories of each image's list."""
    ranks = rows_of(list(itertools.chain.from_iterable(rows)), category_rows)
    ends = np.cumsum([0, *map(len, rows)])
    known = np.concatenate([[0], np.cumsum(ranks != UNKNOWN)])
    return {f"{field}_offsets": known[ends], f"{field}_values": ranks[ranks != UNKNOWN]}


def _image_columns(
    images: Sequence[ImageRow], ids: Sequence[Id], category_rows: Mapping[Id, int]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    names = [file_name(image) for image in images]
    columns = ids_as_columns("image", ids)
    columns |= text_columns("file_name", [name for name, _ in names])
    sizes = np.asarray([pixels(image) for image in images], dtype=np.int32).reshape(-1, 2)
    columns["sizes"] = sizes
    complete = []
    for field in IMAGE_LISTS:
        rows = [getattr(image, field) for image in images]
        given = [row is not msgspec.UNSET for row in rows]
        if not any(given):
            continue
        if all(given):
            complete.append(field)
        columns |= _list_columns(field, [row or () for row in rows], category_rows)
    problems = [problem for _, problem in names if problem]
    facts = {
        "complete_lists": complete,
        "unnamed_images": problems[:1],
        "unsized_images": int((sizes[:, 0] == 0).sum()),
    }
    return columns, facts


def _columns_of(content: _Content, source: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    categories = _checked_categories(source, content)
    ids = checked_ids(source, "images", [image.id for image in content.images])
    images, ids = distinct_rows(source, "image", content.images, ids)
    category_rows = {row["id"]: rank for rank, row in enumerate(categories)}
    columns, facts = _image_columns(images, ids, category_rows)
    annotations = content.annotations
    facts["annotated"] = isinstance(annotations, list)
    image_rows = {one: row for row, one in enumerate(ids)}
    boxes, of_boxes = box_columns(annotations or [], image_rows, category_rows, columns["sizes"])
    columns |= boxes
    try:
        columns["categories"] = np.frombuffer(msgspec.json.encode(categories), dtype=np.uint8)
    except UnicodeEncodeError as error:
        raise ValueError(f"{source}: a category holds half of a surrogate pair: {error}") from error
    return columns, facts | of_boxes


def read_coco_format(json_file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads an annotation file.

    Read is what can be read; what a training or an evaluation refuses of it is told by `law`.

    Args:
        json_file: annotation file with 'images', 'categories' and (for labelled sets)
            'annotations'; plain or gzipped.

    Returns:
        Columns. Of the I images in the file's order: 'image_ids' (or JSON texts 'image_id_bytes',
        'image_id_offsets', see `ids`), 'file_name_bytes' and 'file_name_offsets' relative to the
        image root, 'sizes' (I, 2) int32 height and width (0: not known), LVIS' 'neg_category_ids'
        and 'not_exhaustive_category_ids' as '_offsets' and '_values' (``vocab_id``). Of the boxes,
        those of `box_columns`. 'categories' is the JSON of the category objects by ascending id,
        the rank being the ``vocab_id``.

        Facts: 'complete_lists' (which of LVIS' lists every image has), 'unnamed_images' (what is
        wrong with the first image without a file name), 'unsized_images' (how many),
        'annotated' (whether the file has the list of annotations at all), and those of
        `box_columns`.

    Raises:
        ValueError: no JSON, missing or wrong fields, or different entries with the same id.
    """
    with without_garbage_collection():
        content = read_json_as(json_file, _Content, _FORMAT)
        columns, facts = _columns_of(content, str(json_file))
    logger.info(
        "%s: %d images, %d annotations, %d categories",
        json_file,
        len(columns["sizes"]),
        facts["annotations"],
        len(content.categories),
    )
    for event, count in sorted(facts["events"].items()):
        done = event if event == "clipped" else f"dropped: {event}"
        logger.warning("%s: for training, %d boxes %s", json_file, count, done)
    return columns, facts


def columns_of_rows(
    images: list[ImageRow],
    categories: list[dict[str, Any]],
    annotations: list[AnnotationRow],
    source: str,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same for rows that another form's reader has made.

    Args:
        images, categories, annotations: the three tables.
        source: what to call it in messages.

    Raises:
        ValueError: see `read_coco_format`.
    """
    return _columns_of(_Content(images, categories, annotations), source)


def columns_of(content: Any, source: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same for content that is parsed already; it is not changed.

    Args:
        content: with the tables images, annotations and categories.
        source: what to call it in messages.

    Raises:
        ValueError: see `read_coco_format`.
    """
    with without_garbage_collection():
        return _columns_of(convert(content, _Content, source, _FORMAT), source)
