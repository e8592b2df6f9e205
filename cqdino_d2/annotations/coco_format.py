"""Reads annotation files in the COCO format (COCO, V3Det, LVIS, EmojiDet) as columns."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import mmap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import msgspec
import numpy as np

from ..structures import RaggedIndex

logger = logging.getLogger(__name__)

Number = int | float
_EVENTS = ("not finite", "zero or negative size", "outside the image", "clipped")


class _Image(msgspec.Struct, gc=False):
    """What is read of an image object; other fields are skipped."""

    id: int | str
    height: Number
    width: Number
    file_name: str | None = None
    coco_url: str | None = None
    neg_category_ids: list[int] | None = None
    not_exhaustive_category_ids: list[int] | None = None


class _Annotation(msgspec.Struct, gc=False):
    """What is read of an annotation object; other fields (segmentations) are skipped."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    id: int | str | None = None
    iscrowd: int | bool | None = 0


class _Content(msgspec.Struct, gc=False):
    images: list[_Image] = []
    categories: list[dict[str, Any]] = []
    annotations: list[_Annotation] = []


def require_file(path: str | Path, layout: str = "") -> Path:
    """Returns the path of a file that is there.

    Raises:
        FileNotFoundError: no such file; the message names it and the expected layout.
    """
    if not Path(path).is_file():
        hint = f"; expected layout: {layout}" if layout else ""
        raise FileNotFoundError(f"no such file: {path}{hint}")
    return Path(path)


def read_json(path: str | Path) -> Any:
    """Parses a JSON file; a byte-order mark and NaN are accepted.

    Raises:
        ValueError: the file is no JSON or is cut short; names the file and the place.
    """
    text = Path(path).read_bytes()
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        logger.debug("%s is no strict JSON", path)
    try:
        return json.loads(text.decode("utf-8-sig"))
    except ValueError as error:  # both of bad JSON and of bad UTF-8
        raise ValueError(f"{path} is not valid JSON (cut short?): {error}") from error


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Millions of new objects would set it off again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _decode(path: Path) -> _Content:
    """Parses the file into small structs, checking the types of the fields on the way."""
    try:
        if not path.stat().st_size:
            raise msgspec.DecodeError("empty")
        with open(path, "rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                return msgspec.json.decode(text, type=_Content)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path} is not in the COCO format: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        loose = read_json(path)  # has NaN or a byte-order mark, or is no JSON at all
    try:
        return msgspec.convert(loose, _Content)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path} is not in the COCO format: {error}") from error


def _checked_categories(path: Path, content: _Content) -> list[dict[str, Any]]:
    categories = content.categories
    if not content.images and not categories:
        raise ValueError(f"{path} is not in the COCO format: it has no 'images' or 'categories'")
    ids = [row.get("id") for row in categories]
    if (content.annotations and not ids) or not all(type(dataset_id) is int for dataset_id in ids):
        raise ValueError(f"{path}: 'categories' must be a list of objects with a whole number 'id'")
    repeated = [key for key, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: category ids are listed more than once: {repeated[:10]}")
    return sorted(categories, key=lambda row: row["id"])


def _file_name(path: Path, image: _Image) -> str:
    """Relative to the image root; LVIS names it by the last two parts of ``coco_url``."""
    if image.file_name is not None:
        return image.file_name
    if image.coco_url is not None:
        return "/".join(urlparse(image.coco_url).path.split("/")[-2:])
    raise ValueError(f"{path}: image {image.id!r} has neither 'file_name' nor 'coco_url'")


def text_columns(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Strings as one array of UTF-8 bytes and the offsets of the strings in it."""
    encoded = [text.encode("utf-8", errors="surrogatepass") for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    return {
        f"{name}_bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        f"{name}_offsets": offsets,
    }


def _image_columns(path: Path, images: Sequence[_Image]) -> dict[str, np.ndarray]:
    columns = text_columns("file_name", [_file_name(path, image) for image in images])
    ids = [image.id for image in images]
    if all(type(image_id) is int for image_id in ids):
        columns["image_ids"] = np.asarray(ids, dtype=np.int64)
    else:
        columns |= text_columns("image_id", [json.dumps(image_id) for image_id in ids])
    sizes = [(image.height, image.width) for image in images]
    columns["sizes"] = np.asarray(sizes, dtype=np.int32).reshape(-1, 2)
    for field in ("neg_category_ids", "not_exhaustive_category_ids"):
        rows = [getattr(image, field) for image in images]
        if any(row is not None for row in rows):
            ragged = RaggedIndex.from_rows([row or () for row in rows])
            columns |= {f"{field}_offsets": ragged.offsets, f"{field}_values": ragged.indices}
    return columns


def _rows_of(
    path: Path, annotations: Sequence[_Annotation], field: str, row_of: Mapping[Any, int]
) -> np.ndarray:
    """(N,) the row of each annotation's image or category."""
    values = (row_of.get(getattr(row, field), -1) for row in annotations)
    rows = np.fromiter(values, dtype=np.int32, count=len(annotations))
    unknown = np.flatnonzero(rows < 0)
    if len(unknown):
        first = annotations[int(unknown[0])]
        kind = "image" if field == "image_id" else "category id"
        raise ValueError(
            f"{path}: annotation {first.id!r} belongs to {kind} {getattr(first, field)!r}, which "
            f"is not listed ({len(unknown)} such annotations; {len(row_of)} are listed)"
        )
    return rows


def clip_boxes(boxes_xywh: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clips boxes to their image.

    Args:
        boxes_xywh: (N, 4) in pixels.
        sizes: (N, 2) height and width of each box's image.

    Returns:
        (N, 4) float64 boxes inside their images, and (N,) what happened: -1 nothing, 3 clipped,
        0..2 why it is no box (not finite, zero or negative size, outside the image).
    """
    starts, ends = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    clipped_starts = np.maximum(starts, 0.0)
    clipped_ends = np.minimum(ends, sizes[:, ::-1])
    changed = ((clipped_starts != starts) | (clipped_ends != ends)).any(axis=1)
    clipped = np.concatenate([clipped_starts, clipped_ends - clipped_starts], axis=1)
    reasons = [
        ~np.isfinite(boxes_xywh).all(axis=1),
        (boxes_xywh[:, 2:] <= 0).any(axis=1),
        (clipped[:, 2:] <= 0).any(axis=1),
        changed,
    ]
    return np.where(changed[:, None], clipped, boxes_xywh), np.select(reasons, range(4), -1)


def _box_columns(
    path: Path, content: _Content, columns: Mapping[str, np.ndarray], dataset_ids: Iterable[int]
) -> tuple[dict[str, np.ndarray], Counter[str]]:
    """The usable boxes, image by image, and what happened to the others."""
    annotations = content.annotations
    row_of = {image.id: row for row, image in enumerate(content.images)}
    if len(row_of) < len(content.images):
        counts = Counter(image.id for image in content.images)
        repeated = [image_id for image_id, count in counts.items() if count > 1]
        raise ValueError(f"{path}: image ids are listed more than once: {repeated[:10]}")
    image_rows = _rows_of(path, annotations, "image_id", row_of)
    vocab_id_of = {dataset_id: vocab_id for vocab_id, dataset_id in enumerate(dataset_ids)}
    vocab_ids = _rows_of(path, annotations, "category_id", vocab_id_of)
    count = len(annotations)
    flat = itertools.chain.from_iterable(row.bbox for row in annotations)
    boxes = np.fromiter(flat, dtype=np.float64, count=4 * count).reshape(-1, 4)
    crowd = np.fromiter((bool(row.iscrowd) for row in annotations), dtype=bool, count=count)
    boxes, events = clip_boxes(boxes, columns["sizes"][image_rows])
    kept = np.flatnonzero((events < 0) | (events == 3))
    order = kept[np.argsort(image_rows[kept], kind="stable")]
    offsets = np.zeros(len(content.images) + 1, dtype=np.int64)
    np.cumsum(np.bincount(image_rows[kept], minlength=len(content.images)), out=offsets[1:])
    found = {
        "box_offsets": offsets,
        "boxes_xywh": boxes[order].astype(np.float32),
        "vocab_ids": vocab_ids[order],
        "is_crowd": crowd[order],
    }
    return found, Counter(_EVENTS[event] for event in events[events >= 0].tolist())


def read_coco_format(json_file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads an annotation file.

    Boxes are clipped to their image. Those that are not finite, of zero or negative size or
    wholly outside are dropped and counted. Several categories on one box stay several boxes.
    Crowd boxes stay, marked.

    Args:
        json_file: annotation file with 'images', 'categories' and (for labelled sets)
            'annotations'.

    Returns:
        Columns. Of the I images in the file's order: 'image_ids' (or, if they are not all whole
        numbers, JSON texts 'image_id_bytes', 'image_id_offsets'), 'file_name_bytes' and
        'file_name_offsets' relative to the image root, 'sizes' (I, 2) height and width, LVIS'
        'neg_category_ids' and 'not_exhaustive_category_ids' as '_offsets' and '_values'. Of the
        boxes, image by image: 'box_offsets' (I + 1,), 'boxes_xywh' float32, 'vocab_ids',
        'is_crowd'. 'categories' is the JSON of the category objects by ascending id, the rank
        being the ``vocab_id``. And the facts: 'annotations' (how many the file has) and 'events'
        (how often each thing happened to a box).

    Raises:
        ValueError: no JSON, missing or wrong fields, an unknown category id, an image id listed
            twice, an annotation of an image that is not listed.
    """
    with _without_garbage_collection():
        content = _decode(json_file)
        categories = _checked_categories(json_file, content)
        columns = _image_columns(json_file, content.images)
        ids = [row["id"] for row in categories]
        boxes, events = _box_columns(json_file, content, columns, ids)
    columns |= boxes
    columns["categories"] = np.frombuffer(msgspec.json.encode(categories), dtype=np.uint8)
    logger.info(
        "%s: %d images, %d annotations, %d categories",
        json_file,
        len(content.images),
        len(content.annotations),
        len(categories),
    )
    for event, count in sorted(events.items()):
        done = event if event == "clipped" else f"dropped: {event}"
        logger.warning("%s: %d boxes %s", json_file, count, done)
    return columns, {"annotations": len(content.annotations), "events": dict(events)}
