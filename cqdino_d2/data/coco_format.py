"""Reads annotation files in the COCO format (COCO, V3Det, LVIS, EmojiDet) as Detectron2 records."""

from __future__ import annotations

import json
import logging
import math
import mmap
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from detectron2.structures import BoxMode

logger = logging.getLogger(__name__)

_CATEGORIES_KEY = re.compile(rb'"categories"\s*:\s*(?=\[)')
_FIRST_WINDOW = 1 << 20  # bytes
_KEPT_IMAGE_FIELDS = ("neg_category_ids", "not_exhaustive_category_ids")


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
    """Parses a JSON file.

    Raises:
        ValueError: the file is no JSON or is cut short; names the file and the place.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except ValueError as error:  # both of bad JSON and of bad UTF-8
        raise ValueError(f"{path} is not valid JSON (cut short?): {error}") from error


def _is_category_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) and "id" in row for row in value)


def _decode_list(content: mmap.mmap, start: int) -> list[Any] | None:
    """Parses the JSON list that begins at a byte; None if it does not end."""
    window = _FIRST_WINDOW
    while True:
        text = content[start : start + window].decode("utf-8", errors="replace")
        try:
            return json.JSONDecoder().raw_decode(text)[0]
        except ValueError:  # cut by the window or by the end of the file
            if start + window >= len(content):
                return None
            window *= 4


def _categories_alone(path: Path) -> list[dict[str, Any]] | None:
    """The categories without parsing the (much larger) rest; None if they cannot be told apart."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        places = [
            match.end()
            for match in _CATEGORIES_KEY.finditer(content)
            if content[match.start() - 1 : match.start()] != b"\\"  # else inside a string
        ]
        found = _decode_list(content, places[0]) if len(places) == 1 else None
    return found if _is_category_list(found) else None


def _checked_categories(path: Path, found: Any) -> list[dict[str, Any]]:
    if not _is_category_list(found) or not found:
        raise ValueError(f"{path}: 'categories' must be a list of objects with an 'id'")
    repeated = [key for key, count in Counter(row["id"] for row in found).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: category ids are listed more than once: {repeated[:10]}")
    return sorted(found, key=lambda row: row["id"])


def read_categories(json_file: str | Path, layout: str = "") -> list[dict[str, Any]]:
    """Reads the categories of an annotation file; the rest is skipped, not parsed.

    Args:
        json_file: the annotation file.
        layout: what to say about the expected layout if it is missing.

    Returns:
        The category objects by ascending ``id``: the rank is the ``vocab_id``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no JSON, no categories or a repeated id.
    """
    path = require_file(json_file, layout)
    found = _categories_alone(path) if path.stat().st_size else None
    if found is None:
        content = read_json(path)
        found = content.get("categories") if isinstance(content, dict) else None
    return _checked_categories(path, found)


def _file_name(image: Mapping[str, Any], image_root: Path, path: Path) -> str:
    """Absolute path of an image; LVIS names it by the last two parts of ``coco_url``."""
    if "file_name" in image:
        return str(image_root / image["file_name"])
    if "coco_url" in image:
        return str(image_root.joinpath(*urlparse(image["coco_url"]).path.split("/")[-2:]))
    raise ValueError(f"{path}: image {image.get('id')} has neither 'file_name' nor 'coco_url'")


def _read_images(path: Path, content: Mapping[str, Any], image_root: Path) -> dict[int, dict]:
    records: dict[int, dict] = {}
    for image in content["images"]:
        record = {
            "file_name": _file_name(image, image_root, path),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
            "annotations": [],
        }
        record.update({key: image[key] for key in _KEPT_IMAGE_FIELDS if key in image})
        if image["id"] in records:
            raise ValueError(f"{path}: image id {image['id']} is listed more than once")
        records[image["id"]] = record
    return records


def _clip_box(box_xywh: list[float], width: float, height: float) -> tuple[list[float], str | None]:
    """The box inside the image, and what happened to it: None, 'clipped' or why it is no box."""
    x, y, w, h = box_xywh
    if not math.isfinite(x + y + w + h):
        return box_xywh, "not finite"
    if w <= 0 or h <= 0:
        return box_xywh, "zero or negative size"
    if x >= 0 and y >= 0 and x + w <= width and y + h <= height:
        return box_xywh, None
    left, top = max(x, 0.0), max(y, 0.0)
    clipped = [left, top, min(x + w, width) - left, min(y + h, height) - top]
    if clipped[2] <= 0 or clipped[3] <= 0:
        return box_xywh, "outside the image"
    return clipped, "clipped"


def _add_annotations(
    path: Path,
    annotations: list[dict[str, Any]],
    records: dict[int, dict],
    vocab_id_of: Mapping[int, int],
) -> Counter[str]:
    """Appends the usable boxes to their records; counts what happened to the others."""
    counts: Counter[str] = Counter()
    for annotation in annotations:
        record = records.get(annotation["image_id"])
        if record is None:
            raise ValueError(
                f"{path}: annotation {annotation.get('id')} belongs to image "
                f"{annotation['image_id']}, which is not listed"
            )
        vocab_id = vocab_id_of.get(annotation["category_id"])
        if vocab_id is None:
            raise ValueError(
                f"{path}: annotation {annotation.get('id')} has the unknown category id "
                f"{annotation['category_id']}; the file lists {len(vocab_id_of)} categories"
            )
        try:
            box_xywh, event = _clip_box(annotation["bbox"], record["width"], record["height"])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: annotation {annotation.get('id')} has the bbox "
                f"{annotation.get('bbox')!r}, expected four numbers"
            ) from error
        if event is not None:
            counts[event] += 1
            if event != "clipped":
                continue
        record["annotations"].append(
            {
                "bbox": box_xywh,
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": vocab_id,
                "iscrowd": annotation.get("iscrowd", 0),
            }
        )
    return counts


def load_coco_format(
    json_file: str | Path, image_root: str | Path, *, layout: str = ""
) -> list[dict[str, Any]]:
    """Reads an annotation file as Detectron2's list of dicts.

    Boxes are clipped to their image. Those that are not finite, of zero or negative size or
    wholly outside are dropped, with a logged count. Several categories on one box stay several
    annotations. Crowd boxes stay, marked.

    Args:
        json_file: annotation file with 'images', 'categories' and (for labelled sets)
            'annotations'.
        image_root: folder the file names are relative to.
        layout: what to say about the expected layout if a path is missing.

    Returns:
        One dict per image, in the file's order: 'file_name' (absolute), 'image_id', 'height',
        'width', 'annotations' with 'bbox' (XYWH_ABS), 'bbox_mode', 'category_id' (the
        ``vocab_id``) and 'iscrowd'; LVIS' 'neg_category_ids' and 'not_exhaustive_category_ids'
        (``dataset_id``) where the file has them.

    Raises:
        FileNotFoundError: the file or the image folder is missing.
        ValueError: no JSON, missing fields, an unknown category id, an image id listed twice, an
            annotation of an image that is not listed.
    """
    path = require_file(json_file, layout)
    root = Path(image_root).absolute()
    if not root.is_dir():
        hint = f"; expected layout: {layout}" if layout else ""
        raise FileNotFoundError(f"no such image folder: {root}{hint}")
    content = read_json(path)
    missing = {"images", "categories"} - set(content if isinstance(content, dict) else ())
    if missing:
        raise ValueError(f"{path} is not in the COCO format: it lacks {sorted(missing)}")
    categories = _checked_categories(path, content["categories"])
    vocab_id_of = {row["id"]: vocab_id for vocab_id, row in enumerate(categories)}
    try:
        records = _read_images(path, content, root)
        annotations = content.get("annotations", [])
        counts = _add_annotations(path, annotations, records, vocab_id_of)
    except KeyError as error:
        raise ValueError(f"{path}: an image or annotation lacks the field {error}") from error
    logger.info("%s: %d images, %d annotations", path, len(records), len(annotations))
    for event, count in sorted(counts.items()):
        logger.warning(
            "%s: %d boxes %s", path, count, event if event == "clipped" else f"dropped: {event}"
        )
    return list(records.values())
