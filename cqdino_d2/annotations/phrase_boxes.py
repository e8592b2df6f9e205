"""Which words of a sentence are phrases, and which phrase a box belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .ids import Id, as_id, in_order, spelling

Spans = tuple[tuple[int, int], ...]
_NO_TARGET = "-1"


class PhraseBox(Protocol):
    """What tells the phrase of an annotation."""

    id: int | float | str | None
    tokens_positive: Any
    phrase_ids: Any


def is_no_target(category_id: int | float | str | None) -> bool:
    """Whether an annotation says that its text has no target: the category -1."""
    return category_id is not None and spelling(as_id(category_id)) == _NO_TARGET


def phrases_of_image(given: Any, caption: str, where: str) -> tuple[Spans, ...]:
    """The phrases of a sentence.

    Args:
        given: its 'tokens_positive_eval': for every phrase a list of [first, last + 1] characters.
        caption: the sentence.
        where: what to call it in messages.

    Raises:
        ValueError: no such list, a phrase without spans, or a span outside the caption.
    """
    if not isinstance(given, list):
        raise ValueError(
            f"{where} has the tokens_positive_eval {given!r}, expected a list of spans for every "
            "phrase"
        )
    found = []
    for number, spans in enumerate(given):
        if not isinstance(spans, list) or not spans:
            raise ValueError(
                f"{where}: phrase {number} is {spans!r}, expected a list of spans such as [[0, 5]]"
            )
        found.append(tuple(_span(span, caption, f"{where}: phrase {number}") for span in spans))
    return tuple(found)


def phrases_that_boxes_name(
    boxes: Sequence[PhraseBox], caption: str, where: str
) -> tuple[Spans, ...]:
    """The phrases of a sentence that says only in its boxes which they are, in the text's order.

    Args:
        boxes: all annotations of the text, with 'tokens_positive'.
        caption: the sentence.
        where: what to call it in messages.

    Raises:
        ValueError: a box without spans, or a span outside the caption.
    """
    found = set()
    for box in boxes:
        spans = box.tokens_positive
        place = f"{where}: annotation {box.id!r}"
        if not isinstance(spans, list) or not spans:
            raise ValueError(f"{place} has the tokens_positive {spans!r}, expected spans")
        found.add(tuple(sorted(_span(span, caption, place) for span in spans)))
    return tuple(sorted(found))


def _span(given: Any, caption: str, where: str) -> tuple[int, int]:
    fits = isinstance(given, list) and len(given) == 2 and all(type(one) is int for one in given)
    if not fits or not 0 <= given[0] < given[1] <= len(caption):
        raise ValueError(
            f"{where} has the span {given!r}, expected [first, last + 1] within its caption of "
            f"{len(caption)} characters"
        )
    return given[0], given[1]


def phrases_of_boxes(
    box: PhraseBox, boxes: Sequence[PhraseBox], phrases: Sequence[Spans], where: str
) -> list[int]:
    """The phrases that a box belongs to, by its 'tokens_positive' or else its 'phrase_ids'.

    The ids number the phrases of a sentence in ascending order. That is only taken for granted
    where there are as many different ones as phrases.

    Args:
        box: one annotation.
        boxes: all annotations of the text.
        phrases: of the text.
        where: what to call the text in messages.

    Raises:
        ValueError: neither tells the phrase.
    """
    spans = _as_spans(box.tokens_positive)
    places = [place for place, phrase in enumerate(phrases) if sorted(phrase) == spans]
    if places:
        return places
    ranks = _ranks(boxes)
    if len(ranks) != len(phrases) or not _ids(box):
        raise ValueError(
            f"{where}: annotation {box.id!r} belongs to no phrase: its tokens_positive are "
            f"{box.tokens_positive!r}, its phrase_ids {box.phrase_ids!r} (of {len(ranks)} in the "
            f"text), expected the spans of one of the {len(phrases)} phrases or as many ids as "
            "phrases"
        )
    return sorted(ranks[spelling(one)] for one in _ids(box))


def _as_spans(given: Any) -> list[tuple[int, int]] | None:
    try:
        return sorted((int(begin), int(end)) for begin, end in given)
    except (TypeError, ValueError):
        return None  # absent, or no spans: the ids may tell


def _ids(box: PhraseBox) -> list[Id]:
    given = box.phrase_ids
    values = given if isinstance(given, list) else [given]
    return [as_id(one) for one in values if isinstance(one, int | float | str)]


def _ranks(boxes: Sequence[PhraseBox]) -> dict[str, int]:
    ids = {spelling(one): one for box in boxes for one in _ids(box)}
    order = in_order(ids.values())
    names = list(ids)
    return {names[place]: rank for rank, place in enumerate(order)}
