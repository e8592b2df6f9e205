"""Which characters of a caption a region's phrase stands at.

Spans are believed where the caption says the phrase there; nothing is moved. A phrase without spans
is looked for as whole words.
"""

from __future__ import annotations

import re
from typing import Any

from .label_maps import reading_of
from .phrase_boxes import Spans

_FARTHEST = 3  # characters by which spans are tried elsewhere, to say what is wrong


def region_spans(phrase: Any, given: Any, caption: str) -> Spans:
    """The spans of a region's phrase, ascending.

    Args:
        phrase: what the region is called: a text, several (one for each span), or None.
        given: its 'tokens_positive', [[first, last + 1], ...] or one such pair; None where the
            file has none.
        caption: the sentence.

    Raises:
        ValueError: neither, no spans, one outside the caption, spans where the caption says
            something else than the phrase, or a phrase that the caption does not say.
    """
    words = " ".join(phrase) if _are_texts(phrase) else phrase
    if words is not None and not (isinstance(words, str) and reading_of(words)):
        raise ValueError(f"has the phrase {phrase!r}, expected words")
    if given is None:
        if words is None:
            raise ValueError("has neither a phrase nor tokens_positive")
        return (_found(words, caption),)
    spans = _checked(given, caption)
    if words is None or _says(words, spans, caption):
        return spans
    said = " ".join(caption[first:last] for first, last in spans)
    raise ValueError(
        f"has the phrase {words!r}, but its tokens_positive {_shown(spans)} say {said!r}"
        f"{_hint(words, spans, caption)}"
    )


def cuts_words(spans: Spans, caption: str) -> bool:
    """Whether a span begins or ends inside a word."""
    return any(
        caption[max(place - 1, 0) : place].isalnum() and caption[place : place + 1].isalnum()
        for span in spans
        for place in span
    )


def _are_texts(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(one, str) for one in given)


def _checked(given: Any, caption: str) -> Spans:
    pairs = given if isinstance(given, list) else [given]
    if len(pairs) == 2 and all(type(one) is int for one in pairs):
        pairs = [pairs]
    for pair in pairs:
        fits = isinstance(pair, list) and len(pair) == 2 and all(type(one) is int for one in pair)
        if not fits or not 0 <= pair[0] < pair[1] <= len(caption):
            raise ValueError(
                f"has the span {pair!r}, expected [first, last + 1] within its caption of "
                f"{len(caption)} characters"
            )
        if not reading_of(caption[pair[0] : pair[1]]):
            raise ValueError(f"has the span {pair!r}, where its caption has no word")
    if not pairs:
        raise ValueError("has empty tokens_positive, expected the spans of its phrase")
    return tuple(sorted((first, last) for first, last in pairs))


def _says(words: str, spans: Spans, caption: str) -> bool:
    """Whether the characters of the spans are the phrase, whatever stands between them."""
    said = "".join(reading_of(caption[first:last]) for first, last in spans)
    return said.replace(" ", "") == reading_of(words).replace(" ", "")


def _hint(words: str, spans: Spans, caption: str) -> str:
    for shift in sorted(range(-_FARTHEST, _FARTHEST + 1), key=abs):
        moved = tuple((first + shift, last + shift) for first, last in spans)
        inside = moved[0][0] >= 0 and max(last for _, last in moved) <= len(caption)
        if shift and inside and _says(words, moved, caption):
            return f"; it stands {shift:+d} characters from there: the spans are shifted"
    try:
        return f"; it stands at {list(_found(words, caption))}"
    except ValueError:
        return ", and the caption does not say it anywhere"


def _found(words: str, caption: str) -> tuple[int, int]:
    """The first place where the caption says the words, as whole words."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    match = re.search(rf"(?<!\w){pattern}(?!\w)", caption, flags=re.IGNORECASE)
    if match is None:
        raise ValueError(f"has the phrase {words!r}, which its caption does not say")
    return match.span()


def _shown(spans: Spans) -> list[list[int]]:
    return [list(span) for span in spans]
