"""Annotations of other forms as lines of ODVG."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..annotations import load_annotations, read_grounded_texts
from ..annotations.box_columns import CROWD, clip_boxes
from ..annotations.columns import Annotations
from ..annotations.grounded_texts import BOXED_PHRASES, KINDS, GroundedTexts
from ..annotations.label_maps import reading_of
from ..annotations.law import refuse_for_training
from ..annotations.vocabularies import vocabulary_of_categories
from ..files import write_atomically
from .grit import grit_lines

logger = logging.getLogger(__name__)

Line = dict[str, Any]
FORMS = ("coco", BOXED_PHRASES, *KINDS, "grit")


@dataclass
class Converted:
    """What became of a file.

    Attributes:
        lines: images, or sentences, that were written.
        boxes: that were written.
        notes: what was left out or put together, fit for a person.
    """

    lines: int = 0
    boxes: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OdvgRequest:
    """What is to be converted.

    Attributes:
        form: 'coco' (also LVIS, V3Det, Objects365), 'goldg' (MDETR's files whose boxes
            name their phrases), one of `grounded_texts.KINDS`, or 'grit'.
        input: file, or of GRIT also a folder.
        output: JSON lines to write.
        label_map: file to write, of 'coco' alone.
        name_parts: how many of the last parts of the images' names are kept; 0 for all.
        phrases: of GRIT 'noun_chunks' or 'ref_exps'.
    """

    form: str
    input: Path
    output: Path
    label_map: Path | None = None
    name_parts: int = 0
    phrases: str = "noun_chunks"


def convert_to_odvg(request: OdvgRequest) -> Converted:
    """Writes a file in ODVG, and of boxes with categories its label map.

    Raises:
        FileNotFoundError: the input is missing.
        FileWriteError: a file cannot be written.
        ValueError: an input in another form, or one whose output would replace it.
    """
    if request.form not in FORMS:
        raise ValueError(f"forms are {', '.join(FORMS)}, got {request.form!r}")
    targets = [request.output, *([request.label_map] if request.label_map else [])]
    if request.input in targets or len(set(targets)) < len(targets):
        raise ValueError("input, output and label map must be different files")
    done = Converted()
    if request.form == "coco":
        if request.label_map is None:
            raise ValueError("boxes with categories need a label map to write")
        annotations = load_annotations(request.input, keep=False)
        refuse_for_training(annotations, str(request.input))
        label_of, names = labels_of(annotations, str(request.input), done)
        lines = _box_lines(annotations, label_of, names, done)
        content = json.dumps({str(i): name for i, name in enumerate(names)}, indent=1)
        write_atomically(request.label_map, lambda file: file.write(content.encode()))
    elif request.form == "grit":
        lines = grit_lines(request.input, request.phrases, done.notes)
    else:
        lines = _text_lines(read_grounded_texts(request.input, request.form), done)
    write_atomically(request.output, lambda file: _write(file, lines, request.name_parts, done))
    if not done.lines:
        done.notes.append("nothing was written: the input has no image that could be used")
    return done


def _write(file: IO[bytes], lines: Iterable[Line], name_parts: int, done: Converted) -> None:
    for line in lines:
        if name_parts:
            line["filename"] = "/".join(line["filename"].split("/")[-name_parts:])
        file.write(json.dumps(line).encode() + b"\n")
        done.lines += 1
        for region in line.get("grounding", {}).get("regions", ()):
            done.boxes += len(region["bbox"])
        done.boxes += len(line.get("detection", {}).get("instances", ()))


def labels_of(
    annotations: Annotations, source: str, done: Converted
) -> tuple[list[int], list[str]]:
    """The label of each vocab_id, and the names of the labels.

    Categories whose names read the same get one label: words cannot tell them apart.

    Raises:
        ValueError: no categories, or one without a name.
    """
    categories = annotations.categories()
    if not categories:
        raise ValueError(f"{source} lists no categories")
    vocabulary = vocabulary_of_categories(categories, None)
    names: list[str] = []
    place_of: dict[str, int] = {}
    label_of = []
    for dataset_id, name in zip(vocabulary.dataset_ids, vocabulary.names, strict=True):
        reading = reading_of(name)
        if not reading:
            raise ValueError(f"{source}: category {dataset_id} has the name {name!r}, no words")
        if reading not in place_of:
            place_of[reading] = len(names)
            names.append(name)
        label_of.append(place_of[reading])
    if merged := len(label_of) - len(names):
        done.notes.append(f"{merged} categories have a name that reads like another's: one label")
    return label_of, names


def _labels(ranks: Sequence[int], label_of: Sequence[int]) -> set[int]:
    return {label_of[rank] for rank in ranks}


def _box_lines(
    annotations: Annotations, label_of: Sequence[int], names: Sequence[str], done: Converted
) -> Iterator[Line]:
    """One line an image; categories that lack boxes, crowds among them, are 'not exhaustive'."""
    columns = annotations.columns
    negative = annotations.image_list("neg_category_ids")
    partial = annotations.image_list("not_exhaustive_category_ids")
    crowds = columns["given_flags"] & CROWD != 0
    listed = partial is not None or bool(crowds.any())
    dropped = crowd_boxes = 0
    for row in range(len(annotations)):
        height, width = columns["sizes"][row].tolist()
        start, end = columns["given_offsets"][row : row + 2].tolist()
        sizes = np.broadcast_to(columns["sizes"][row], (end - start, 2))
        boxes, events = clip_boxes(columns["given_boxes"][start:end], sizes)
        labels = [label_of[rank] for rank in columns["given_categories"][start:end].tolist()]
        crowd = crowds[start:end]
        kept = (events < 0) | (events == 3)
        dropped += int((~kept & ~crowd).sum())
        crowd_boxes += int(crowd.sum())
        instances = [
            {
                "bbox": _as_xyxy(boxes[place]),
                "label": labels[place],
                "category": names[labels[place]],
            }
            for place in np.flatnonzero(kept & ~crowd).tolist()
        ]
        line: Line = {"filename": annotations.text("file_name", row)}
        line |= {"height": height, "width": width} if height else {}
        line["detection"] = {"instances": instances}
        shown = {labels[place] for place in np.flatnonzero(crowd).tolist()}
        if negative is not None:
            absent = _labels(negative[row].tolist(), label_of) - set(labels)
            line["neg_category_ids"] = sorted(absent)
        if listed:
            shown |= _labels(partial[row].tolist(), label_of) if partial is not None else set()
            line["not_exhaustive_category_ids"] = sorted(shown)
        yield line
    if dropped:
        done.notes.append(f"{dropped} boxes are empty, outside their image or not finite: left out")
    if crowd_boxes:
        done.notes.append(
            f"{crowd_boxes} crowd boxes are left out; their categories are marked in their lines"
        )


def _as_xyxy(box_xywh: np.ndarray) -> list[float]:
    x, y, width, height = box_xywh.tolist()
    return [x, y, x + width, y + height]


def _text_lines(texts: GroundedTexts, done: Converted) -> Iterator[Line]:
    """One line a sentence; an expression is its own only phrase."""
    dropped = 0
    for row in range(len(texts)):
        caption, phrases = texts.captions[row], texts.phrases[row]
        if not phrases:
            start = len(caption) - len(caption.lstrip())
            phrases = (((start, len(caption.rstrip(" .?"))),),)
        start, end = texts.box_offsets[row : row + 2].tolist()
        boxes, of_phrase = texts.boxes_xywh[start:end], texts.box_phrases[start:end]
        usable = (boxes[:, 2:] > 0).all(axis=1)
        dropped += int((~usable).sum())
        regions = [
            {
                "bbox": [_as_xyxy(box) for box in boxes[usable & (of_phrase == place)]],
                "phrase": " ".join(caption[first:last] for first, last in spans),
                "tokens_positive": [list(span) for span in spans],
            }
            for place, spans in enumerate(phrases)
        ]
        height, width = texts.sizes[row].tolist()
        line: Line = {"filename": texts.file_names[row]}
        line |= {"height": height, "width": width} if height else {}
        regions = [region for region in regions if region["bbox"]]
        yield line | {"grounding": {"caption": caption, "regions": regions}}
    if dropped:
        done.notes.append(f"{dropped} boxes without area are left out")
