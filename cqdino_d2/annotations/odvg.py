"""ODVG: one JSON object a line, an image with labelled boxes or with a sentence and its regions.

A line has filename, height, width and either ``detection: {instances: [{bbox, label, category}]}``
or ``grounding: {caption, regions: [{bbox, phrase, tokens_positive}]}``; boxes are left, top, right,
bottom in pixels. A file has lines of one kind. Images are numbered by their lines. Boxes are kept
and left out by the law of `box_columns`, as those of any other set, and as in mmdetection those
with a side under a pixel and phrases without a box left are left out too.

In addition to what others write, a detection line may have LVIS' lists 'neg_category_ids' and
'not_exhaustive_category_ids', of labels.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .box_columns import AnnotationRow, clip_boxes, event_names
from .coco_format import columns_of_rows
from .ids import as_id, text_columns
from .image_rows import AnyId, ImageRow, Number, pixels
from .json_file import decoded, lines_of, without_garbage_collection
from .label_maps import reading_of
from .phrase_boxes import Spans
from .region_phrases import cuts_words, region_spans

_LOGGER = logging.getLogger(__name__)
_SMALL = "smaller than a pixel"


class _Instance(msgspec.Struct, gc=False):
    bbox: list[float]
    label: AnyId
    category: Any = None


class _Detection(msgspec.Struct, gc=False):
    instances: list[_Instance] = []


class _Region(msgspec.Struct, gc=False):
    bbox: list[Any]
    phrase: Any = None
    tokens_positive: Any = None


class _Grounding(msgspec.Struct, gc=False):
    caption: str
    regions: list[_Region] = []


class _Line(msgspec.Struct, gc=False):
    filename: str
    height: Number | str | None = None
    width: Number | str | None = None
    detection: _Detection | None = None
    grounding: _Grounding | None = None
    neg_category_ids: list[AnyId] | msgspec.UnsetType = msgspec.UNSET
    not_exhaustive_category_ids: list[AnyId] | msgspec.UnsetType = msgspec.UNSET


@dataclass
class _Problems:
    """The lines that cannot be used."""

    path: Path
    count: int = 0
    first: str = ""

    def add(self, number: int, text: str) -> None:
        self.first = self.first or f"{self.path}, line {number}: {text}"
        self.count += 1

    def refuse(self) -> None:
        """Raises ValueError if there are any."""
        if self.count:
            more = f" ({self.count - 1:,} more problems of lines)" if self.count > 1 else ""
            raise ValueError(f"{self.first}{more}")


def read_odvg_detection(
    path: Path, names: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a file of detection lines.

    Args:
        path: plain or gzipped.
        names: of the labels.

    Returns:
        As `coco_format.read_coco_format`, with the labels as category ids; the fact 'first_lines'
        has the first line of each thing that happened to boxes.

    Raises:
        ValueError: no image, lines that are no JSON or cut short, of another kind, with a label
            that the map lacks or whose 'category' is another name than the map's; the first line
            is named.
    """
    images, rows, problems = [], [], _Problems(path)
    with without_garbage_collection():
        for number, line in _lines(path, problems):
            if line.grounding is not None:
                problems.add(number, "is a grounding line, and the set has a label map")
                continue
            images.append(_image_row(number, line))
            for instance in (line.detection or _Detection()).instances:
                problem, box = _problem_with(instance, names), _as_xywh(instance.bbox)
                if problem or box is None:
                    problems.add(number, problem or _no_box(instance.bbox))
                    continue
                label = int(as_id(instance.label))
                rows.append(AnnotationRow(number, label, box, len(rows) + 1))
        problems.refuse()
        if not images:
            raise ValueError(f"{path} has no line")
        sizes = {image.id: pixels(image) for image in images}
        events, first_lines = _events(
            path,
            np.asarray([row.bbox for row in rows], np.float64).reshape(-1, 4),
            np.asarray([sizes[row.image_id] for row in rows], np.int64).reshape(-1, 2),
            [row.image_id for row in rows],
        )
        large = [rows[place] for place in np.flatnonzero(events != _SMALL).tolist()]
        categories = [{"id": label, "name": name} for label, name in enumerate(names)]
        columns, facts = columns_of_rows(images, categories, large, str(path))
    facts |= {"annotations": len(rows), "first_lines": first_lines, "events": _counts(events)}
    _LOGGER.info("%s: %d images, %d boxes", path, len(images), len(rows))
    return columns, facts


@dataclass
class _Texts:
    """What is gathered line by line."""

    lines: list[int] = field(default_factory=list)
    file_names: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    phrase_texts: list[int] = field(default_factory=list)  # of each phrase of the file
    phrase_spans: list[Spans] = field(default_factory=list)
    doubts: dict[int, str] = field(default_factory=dict)  # phrase -> what is wrong with its spans
    box_phrases: list[int] = field(default_factory=list)  # of all phrases of the file
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)


def read_odvg_grounding(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a file of grounding lines.

    Args:
        path: plain or gzipped.

    Returns:
        Columns of the I texts: 'lines' int64, 'sizes' (I, 2) int32 height and width (0: not known),
        the strings 'file_name' and 'caption' (`ids.text_columns`); of the phrases that have boxes
        'phrase_offsets' (I + 1,) where those of a text begin, 'span_offsets' where the spans of a
        phrase begin, 'spans' (n, 2) int32 characters; 'box_offsets' (I + 1,), 'boxes_xywh' float64
        clipped to their images, 'box_phrases' int32 the place of the phrase in its text.

        Facts: 'events' and 'first_lines' of boxes, 'cut_words': how many phrases begin or end
        inside a word, and the first line with one.

    Raises:
        ValueError: no text, lines that are no JSON or cut short, of another kind, without a
            caption, or with a region that has boxes and that `region_spans` refuses; the first
            line is named.
    """
    texts, problems = _Texts(), _Problems(path)
    with without_garbage_collection():
        for number, line in _lines(path, problems):
            _add_text(texts, number, line, problems)
        columns, facts = _text_columns(texts, path, problems)
    problems.refuse()
    if not texts.lines:
        raise ValueError(f"{path} has no line")
    _LOGGER.info("%s: %d texts, %d boxes", path, len(texts.lines), len(columns["box_phrases"]))
    if facts["cut_words"][0]:
        _LOGGER.warning(
            "%s: %d phrases begin or end inside a word (the first: line %d)",
            path,
            *facts["cut_words"],
        )
    return columns, facts


def _lines(path: Path, problems: _Problems) -> Iterator[tuple[int, _Line]]:
    for number, text in lines_of(path):
        try:
            line = decoded(text, _Line)
        except msgspec.ValidationError as error:
            problems.add(number, f"is no line of ODVG: {error}")
            continue
        except ValueError as error:
            hint = "" if text.endswith(b"}") else " (cut short?)"
            problems.add(number, f"is not valid JSON{hint}: {error}")
            continue
        if not line.filename:
            problems.add(number, "has an empty filename")
            continue
        yield number, line


def _image_row(number: int, line: _Line) -> ImageRow:
    return ImageRow(
        id=number,
        height=line.height,
        width=line.width,
        file_name=line.filename,
        neg_category_ids=line.neg_category_ids,
        not_exhaustive_category_ids=line.not_exhaustive_category_ids,
    )


def _problem_with(instance: _Instance, names: Sequence[str]) -> str:
    """Why the label cannot be used; '' if it can."""
    try:
        label = int(as_id(instance.label))
    except ValueError:
        label = -1
    if not 0 <= label < len(names):
        return f"has the label {instance.label!r}, the label map has 0..{len(names) - 1}"
    category = instance.category
    if category is None or (
        isinstance(category, str) and reading_of(category) == reading_of(names[label])
    ):
        return ""
    return (
        f"has the label {label} with the category {category!r}, in the label map it is "
        f"{names[label]!r}: the map belongs to another file?"
    )


def _as_xywh(given: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(given, list) or len(given) != 4:
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in given):
        return None
    left, top, right, bottom = map(float, given)
    return left, top, right - left, bottom - top


def _no_box(given: Any) -> str:
    return f"has the bbox {given!r}, expected four numbers: left, top, right, bottom"


def _add_text(texts: _Texts, number: int, line: _Line, problems: _Problems) -> None:
    grounding = line.grounding
    if grounding is None:
        hint = ": labelled boxes need a label map" if line.detection else ""
        problems.add(number, f"is no grounding line{hint}")
        return
    if not reading_of(grounding.caption):
        problems.add(number, f"has the caption {grounding.caption!r}, expected words")
        return
    for place, region in enumerate(grounding.regions):
        several = not region.bbox or isinstance(region.bbox[0], list)
        given = region.bbox if several else [region.bbox]
        boxes = [box for box in map(_as_xywh, given) if box is not None]
        if len(boxes) < len(given):
            bad = next(one for one in given if _as_xywh(one) is None)
            problems.add(number, f"region {place} {_no_box(bad)}")
        phrase = len(texts.phrase_spans)
        try:
            spans = region_spans(region.phrase, region.tokens_positive, grounding.caption)
        except ValueError as error:
            spans, texts.doubts[phrase] = (), f"region {place} {error}"
        texts.phrase_spans.append(spans)
        texts.phrase_texts.append(len(texts.lines))
        texts.boxes += boxes
        texts.box_phrases += [phrase] * len(boxes)
    texts.lines.append(number)
    texts.file_names.append(line.filename)
    texts.sizes.append(pixels(_image_row(number, line)))
    texts.captions.append(grounding.caption)


def _text_columns(
    texts: _Texts, path: Path, problems: _Problems
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    sizes = np.asarray(texts.sizes, np.int32).reshape(-1, 2)
    text_of = np.asarray(texts.phrase_texts, np.int64)
    phrase_of = np.asarray(texts.box_phrases, np.int64)
    boxes = np.asarray(texts.boxes, np.float64).reshape(-1, 4)
    of_text = text_of[phrase_of]
    events, first_lines = _events(
        path, boxes, sizes[of_text], [texts.lines[text] for text in of_text.tolist()]
    )
    kept = np.flatnonzero((events == "") | (events == "clipped"))
    with_boxes = np.unique(phrase_of[kept])
    spans = [texts.phrase_spans[phrase] for phrase in with_boxes.tolist()]
    cut = []
    for phrase, own in zip(with_boxes.tolist(), spans, strict=True):
        text = texts.phrase_texts[phrase]
        if phrase in texts.doubts:
            problems.add(texts.lines[text], texts.doubts[phrase])
        elif cuts_words(own, texts.captions[text]):
            cut.append(texts.lines[text])
    phrase_offsets = _offsets(text_of[with_boxes], len(sizes))
    places = np.searchsorted(with_boxes, phrase_of[kept])  # among all phrases with boxes
    columns = {
        "lines": np.asarray(texts.lines, np.int64),
        "sizes": sizes,
        **text_columns("file_name", texts.file_names),
        **text_columns("caption", texts.captions),
        "phrase_offsets": phrase_offsets,
        "span_offsets": np.cumsum([0, *map(len, spans)], dtype=np.int64),
        "spans": np.asarray([span for own in spans for span in own], np.int32).reshape(-1, 2),
        "box_offsets": _offsets(of_text[kept], len(sizes)),
        "boxes_xywh": clip_boxes(boxes, sizes[of_text])[0][kept],
        "box_phrases": (places - phrase_offsets[of_text[kept]]).astype(np.int32),
    }
    cut_words = [len(cut), *cut[:1]]
    return columns, {"events": _counts(events), "first_lines": first_lines, "cut_words": cut_words}


def _offsets(rows: np.ndarray, count: int) -> np.ndarray:
    """(count + 1,) where the entries of each row begin; rows ascending."""
    return np.cumsum([0, *np.bincount(rows, minlength=count).tolist()], dtype=np.int64)


def _events(
    path: Path, boxes_xywh: np.ndarray, sizes: np.ndarray, lines: Sequence[int]
) -> tuple[np.ndarray, dict[str, int]]:
    """(N,) what happens to each box, '' for nothing, and the first line of each event; warns."""
    _, numbers = clip_boxes(boxes_xywh, sizes)
    events = event_names(numbers).astype(object)
    usable = (events == "") | (events == "clipped")
    events[usable & (boxes_xywh[:, 2:] < 1).any(axis=1)] = _SMALL
    first: dict[str, int] = {}
    for event, count in _counts(events).items():
        first[event] = int(lines[np.flatnonzero(events == event)[0]])
        done = event if event == "clipped" else f"dropped: {event}"
        _LOGGER.warning("%s: %d boxes %s (the first: line %d)", path, count, done, first[event])
    return events, first


def _counts(events: np.ndarray) -> dict[str, int]:
    return dict(sorted(Counter(event for event in events.tolist() if event).items()))
