"""Texts about images with the boxes of what they name: MDETR's form of the COCO format.

RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO have one image object for each expression, Flickr30k
Entities one for each sentence. Several image objects may name the same file.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .coco_format import checked_ids, distinct_rows
from .ids import UNKNOWN, Id, rows_of
from .image_rows import AnyId, ImageRow, file_name, pixels
from .json_file import read_json_as, require_file, without_garbage_collection
from .phrase_boxes import (
    Spans,
    is_no_target,
    phrases_of_boxes,
    phrases_of_image,
    phrases_that_boxes_name,
)

_LOGGER = logging.getLogger(__name__)
_FORMAT = "in MDETR's form of the COCO format"

EXPRESSIONS, GENERALIZED, PHRASES = "refexp", "grefcoco", "flickr30k"
KINDS = (EXPRESSIONS, GENERALIZED, PHRASES)
BOXED_PHRASES = "goldg"  # for training: no evaluation knows it
EXPRESSION_SETS = ("refcoco", "refcoco+", "refcocog")


class _ImageRow(ImageRow, gc=False):
    caption: Any = None
    dataset_name: Any = None
    tokens_positive_eval: Any = None


class _BoxRow(msgspec.Struct, gc=False):
    image_id: AnyId
    bbox: list[float] | None = None
    id: AnyId | None = None
    category_id: AnyId | None = None
    tokens_positive: Any = None
    phrase_ids: Any = None


class _Content(msgspec.Struct, gc=False):
    images: list[_ImageRow]
    annotations: list[_BoxRow]


@dataclass(frozen=True)
class GroundedTexts:
    """I texts, each about one image, with the G boxes of what they name.

    Attributes:
        kind: one of `KINDS`, or `odvg_sets.ODVG`.
        image_ids: of the I image objects, as the file writes them.
        file_names: relative to the image root.
        sizes: (I, 2) int32 height and width, 0 where they are not known.
        captions: the texts.
        dataset_names: what each text belongs to, '' where the file does not tell.
        phrases: for each text the spans of its phrases; () where the whole text is one thing.
        box_offsets: (I + 1,) where the boxes of each text begin.
        boxes_xywh: (G, 4) float64, XYWH_ABS.
        box_phrases: (G,) int32 which phrase of its text a box belongs to.
    """

    kind: str
    image_ids: Sequence[Id]
    file_names: Sequence[str]
    sizes: np.ndarray
    captions: Sequence[str]
    dataset_names: Sequence[str]
    phrases: Sequence[tuple[Spans, ...]]
    box_offsets: np.ndarray
    boxes_xywh: np.ndarray
    box_phrases: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def num_things(self) -> np.ndarray:
        """(I,) int64 how many things each text asks for, at least 1."""
        return np.maximum(np.fromiter(map(len, self.phrases), np.int64, len(self)), 1)


def read_grounded_texts(path: str | Path, kind: str, layout: str = "") -> GroundedTexts:
    """Reads a file of expressions or sentences.

    Args:
        path: plain or gzipped; a byte-order mark is accepted.
        kind: 'refexp' (one box for each expression), 'grefcoco' (any number of boxes; the one
            annotation of an expression without a target has the category -1) or 'flickr30k'
            (phrases by 'tokens_positive_eval', sentences without a phrase are left out) or
            'goldg' (phrases by the 'tokens_positive' of the boxes; sentences without a box stay).
        layout: what to say about the expected layout if the file is missing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind, a file in another form, or an image or annotation that lacks what
            its kind needs; the first one is named.
    """
    if kind not in (*KINDS, BOXED_PHRASES):
        raise ValueError(
            f"texts are of the kinds {', '.join((*KINDS, BOXED_PHRASES))}, got {kind!r}"
        )
    path = require_file(path, layout)
    with without_garbage_collection():
        content = read_json_as(path, _Content, _FORMAT)
        return _texts_of(content, kind, str(path))


def _texts_of(content: _Content, kind: str, source: str) -> GroundedTexts:
    ids = checked_ids(source, "images", [image.id for image in content.images])
    images, ids = distinct_rows(source, "image", content.images, ids)
    if not images:
        raise ValueError(f"{source} lists no images")
    captions = tuple(_caption(image, source) for image in images)
    names = tuple(_dataset_name(image, kind, source) for image in images)
    boxes = _boxes_by_image(content.annotations, ids, source)
    phrases = tuple(
        _phrases(image, rows, kind, f"{source}: image {image.id!r}")
        for image, rows in zip(images, boxes, strict=True)
    )
    texts = GroundedTexts(
        kind=kind,
        image_ids=tuple(ids),
        file_names=tuple(_file_name(image, source) for image in images),
        sizes=np.asarray([pixels(image) for image in images], np.int32).reshape(-1, 2),
        captions=captions,
        dataset_names=names,
        phrases=phrases,
        **_box_columns(boxes, phrases, ids, kind, source),
    )
    _LOGGER.info("%s: %d texts, %d boxes", source, len(texts), len(texts.boxes_xywh))
    return _with_phrases(texts, source) if kind == PHRASES else texts


def _phrases(
    image: _ImageRow, boxes: Sequence[_BoxRow], kind: str, where: str
) -> tuple[Spans, ...]:
    if kind == PHRASES:
        return phrases_of_image(image.tokens_positive_eval, image.caption, where)
    if kind == BOXED_PHRASES:
        return phrases_that_boxes_name(boxes, image.caption, where)
    return ()


def _caption(image: _ImageRow, source: str) -> str:
    caption = image.caption
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(
            f"{source}: image {image.id!r} has the caption {caption!r}, expected the text of what "
            "is to be found"
        )
    return caption


def _dataset_name(image: _ImageRow, kind: str, source: str) -> str:
    name = image.dataset_name
    if kind == EXPRESSIONS and name not in EXPRESSION_SETS:
        raise ValueError(
            f"{source}: image {image.id!r} has the dataset_name {name!r}, expected one of "
            f"{', '.join(EXPRESSION_SETS)}"
        )
    return name if isinstance(name, str) else ""


def _file_name(image: _ImageRow, source: str) -> str:
    name, problem = file_name(image)
    if problem:
        raise ValueError(f"{source}: {problem}")
    return name


def _boxes_by_image(
    annotations: Sequence[_BoxRow], ids: Sequence[Id], source: str
) -> list[list[_BoxRow]]:
    """The annotations of each image, in the file's order."""
    row_of = {one: row for row, one in enumerate(ids)}
    rows = rows_of([annotation.image_id for annotation in annotations], row_of)
    missing = np.flatnonzero(rows == UNKNOWN)
    if len(missing):
        first = annotations[int(missing[0])]
        raise ValueError(
            f"{source}: annotation {first.id!r} belongs to image {first.image_id!r}, which is not "
            f"listed ({len(missing)} such annotations; {len(ids)} are listed)"
        )
    by_image: list[list[_BoxRow]] = [[] for _ in ids]
    for row, annotation in zip(rows.tolist(), annotations, strict=True):
        by_image[row].append(annotation)
    return by_image


def _box_columns(
    by_image: Sequence[Sequence[_BoxRow]],
    phrases: Sequence[Sequence[Spans]],
    ids: Sequence[Id],
    kind: str,
    source: str,
) -> dict[str, np.ndarray]:
    boxes: list[list[float]] = []
    box_phrases: list[int] = []
    offsets = [0]
    empty = 0
    for one, rows, own_phrases in zip(ids, by_image, phrases, strict=True):
        where = f"{source}: image {one!r}"
        for annotation in _targets(rows, kind, where):
            box = _box(annotation, where)
            empty += min(box[2:]) <= 0
            wanted = [0]
            if kind in (PHRASES, BOXED_PHRASES):
                wanted = phrases_of_boxes(annotation, rows, own_phrases, where)
            boxes += [box] * len(wanted)
            box_phrases += wanted
        offsets.append(len(boxes))
    if empty:
        _LOGGER.warning("%s: %d boxes have no area; they can never be found", source, empty)
    return {
        "box_offsets": np.asarray(offsets, np.int64),
        "boxes_xywh": np.asarray(boxes, np.float64).reshape(-1, 4),
        "box_phrases": np.asarray(box_phrases, np.int32),
    }


def _targets(annotations: Sequence[_BoxRow], kind: str, where: str) -> Sequence[_BoxRow]:
    """The annotations with a box to be found."""
    if kind in (PHRASES, BOXED_PHRASES):
        return annotations
    if kind == EXPRESSIONS:
        if len(annotations) != 1:
            raise ValueError(f"{where} has {len(annotations)} annotations, expected one box")
        return annotations
    if not annotations:
        raise ValueError(
            f"{where} has no annotation, expected boxes or, where the text has no target, one "
            "with the category -1"
        )
    without = [is_no_target(annotation.category_id) for annotation in annotations]
    if any(without) and not all(without):
        raise ValueError(
            f"{where} has {sum(without)} annotations with the category -1 (no target) and "
            f"{len(without) - sum(without)} boxes, expected the one or the other"
        )
    return () if any(without) else annotations


def _box(annotation: _BoxRow, where: str) -> list[float]:
    box = annotation.bbox
    if box is None or len(box) != 4 or not np.isfinite(box).all():
        raise ValueError(
            f"{where}: annotation {annotation.id!r} has the bbox {box}, expected four finite "
            "numbers: left, top, width, height"
        )
    return box


def _with_phrases(texts: GroundedTexts, source: str) -> GroundedTexts:
    """Without sentences that name nothing."""
    rows = [row for row, phrases in enumerate(texts.phrases) if phrases]
    if len(rows) == len(texts):
        return texts
    _LOGGER.info("%s: %d sentences without a phrase are left out", source, len(texts) - len(rows))
    if not rows:
        raise ValueError(
            f"{source}: none of its {len(texts)} sentences has a phrase in tokens_positive_eval"
        )
    counts = np.diff(texts.box_offsets)  # boxes without a phrase were refused
    return replace(
        texts,
        image_ids=tuple(texts.image_ids[row] for row in rows),
        file_names=tuple(texts.file_names[row] for row in rows),
        sizes=texts.sizes[rows],
        captions=tuple(texts.captions[row] for row in rows),
        dataset_names=tuple(texts.dataset_names[row] for row in rows),
        phrases=tuple(texts.phrases[row] for row in rows),
        box_offsets=np.concatenate([[0], np.cumsum(counts[rows])]),
    )
