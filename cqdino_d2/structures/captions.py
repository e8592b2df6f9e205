"""Names in words, and captions of several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .names import one_line
from .requests import TextPrompt

SEPARATORS = (".", "?")  # where a text-prompted detector cuts a caption


def words_of(name: str) -> str:
    """A name as it stands in a caption: underscores and separators are blanks; may be empty."""
    for mark in ("_", *SEPARATORS):
        name = name.replace(mark, " ")
    return one_line(name)


def caption_of(pieces: Iterable[tuple[str, Sequence[int]]]) -> TextPrompt:
    """A caption of words, each piece followed by a separator.

    Args:
        pieces: words and the things that they name.
    """
    caption, spans = "", []
    vocab_ids: list[int] = []
    for words, named in pieces:
        span = ((len(caption), len(caption) + len(words)),)
        spans += [span] * len(named)
        vocab_ids += named
        caption += f"{words}. "
    return TextPrompt(caption.rstrip(), tuple(spans), tuple(vocab_ids))
