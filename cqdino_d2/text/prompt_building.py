"""Prompts from captions and from lists of names."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from ..structures import TextPrompt
from .prompt_tokenizer import SEPARATORS, PromptTokenizer
from .prompts import spoken_name

logger = logging.getLogger(__name__)
_PIECES = re.compile(rf"[^{re.escape(''.join(SEPARATORS))}]+")
_SPECIALS = 2  # [CLS] and [SEP]


def caption_prompt(caption: str) -> TextPrompt:
    """Looks for every phrase of a caption: what stands between dots and question marks.

    Args:
        caption: such as "a cat. a red ball". A dot is added where it ends without one.

    Raises:
        ValueError: nothing but separators and blanks.
    """
    caption = caption.strip()
    if not caption.endswith(SEPARATORS):
        caption += "."
    spans = []
    for piece in _PIECES.finditer(caption):
        words = piece.group().strip()
        if words:
            begin = piece.start() + piece.group().index(words)
            spans.append(((begin, begin + len(words)),))
    if not spans:
        raise ValueError(f"a prompt needs words between its separators, got {caption!r}")
    return TextPrompt(caption, tuple(spans))


def names_prompts(
    names: Sequence[str | Sequence[str]], tokenizer: PromptTokenizer
) -> tuple[TextPrompt, ...]:
    """As few prompts as hold all names in their order, each as full as the tokens allow.

    Args:
        names: what to look for; the place of a name is its vocab_id. A list of names instead of
            one are synonyms; they stay in one prompt. Underscores are read as blanks, and so are
            the separators, which would cut a name.
        tokenizer: counts tokens; its ``max_tokens`` holds for every prompt.

    Raises:
        ValueError: no names, an empty one, one that no prompt can hold, or two that are the same
            tokens.
    """
    if isinstance(names, str) or not names:
        raise ValueError(f"expected a list of names, got {names!r}")
    budget = tokenizer.max_tokens - _SPECIALS
    seen: dict[tuple[int, ...], str] = {}
    passes: list[list[tuple[int, str]]] = [[]]
    used = 0
    for vocab_id, name in enumerate(names):
        words = [_words(one) for one in ([name] if isinstance(name, str) else name)]
        needed = sum(_count_tokens(one, tokenizer, seen) for one in words)
        if needed > budget or not words:
            raise ValueError(
                f"the name {name!r} has {needed} tokens with its separator, a prompt holds "
                f"1 to {budget}"
            )
        if used + needed > budget:
            passes.append([])
            used = 0
        passes[-1] += [(vocab_id, one) for one in words]
        used += needed
    return tuple(_joined(rows) for rows in passes)


def _words(name: str) -> str:
    words = name
    for separator in SEPARATORS:
        words = words.replace(separator, " ")
    words = spoken_name(words)
    if not words:
        raise ValueError(f"a name needs words, got {name!r}")
    return words


def _count_tokens(words: str, tokenizer: PromptTokenizer, seen: dict[tuple[int, ...], str]) -> int:
    """Tokens of a name and its separator; remembers the name by its tokens."""
    encoding = tokenizer.encode(words)
    ids = encoding.ids[1:-1]
    if ids in seen:
        raise ValueError(f"{words!r} and {seen[ids]!r} are the same to the model: name one of them")
    seen[ids] = words
    if set(encoding.texts[1:-1]) <= {"[UNK]"}:
        logger.warning("the model's vocabulary has no word of %r: it cannot be told apart", words)
    return len(ids) + 1


def _joined(rows: Sequence[tuple[int, str]]) -> TextPrompt:
    caption, spans = "", []
    for _, words in rows:
        spans.append(((len(caption), len(caption) + len(words)),))
        caption += f"{words}. "
    return TextPrompt(caption.rstrip(), tuple(spans), tuple(vocab_id for vocab_id, _ in rows))
