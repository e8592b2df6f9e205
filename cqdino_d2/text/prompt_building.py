"""Prompts from captions and from lists of names."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from ..structures import TextPrompt, Vocabulary
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


def caption_phrases(caption: str) -> list[str]:
    """What stands between the separators of a caption; see `caption_prompt`."""
    prompt = caption_prompt(caption)
    return [spoken_name(prompt.words(phrase)) for phrase in range(len(prompt.spans))]


def names_prompts(
    names: Sequence[str | Sequence[str]],
    tokenizer: PromptTokenizer,
    *,
    negatives: Sequence[str] = (),
    allow_alike: bool = False,
) -> tuple[TextPrompt, ...]:
    """As few prompts as hold all names in their order, each as full as the tokens allow.

    Args:
        names: what to look for; the place of a name is its vocab_id. A list of names instead of
            one are synonyms; they stay in one prompt. Underscores are read as blanks, and so are
            the separators, which would cut a name.
        tokenizer: counts tokens; its ``max_tokens`` holds for every prompt.
        negatives: further names, which stand in every prompt; their vocab_ids follow.
        allow_alike: whether several names may be the same tokens; they then have equal scores.

    Raises:
        ValueError: no names, an empty one, one that no prompt can hold, or two that are the same
            tokens.
    """
    for given in (names, negatives):
        if isinstance(given, str) or not (given or given is negatives):
            raise ValueError(f"expected a list of names, got {given!r}")
    counter = _TokenCounter(tokenizer, allow_alike)
    everywhere = [
        (len(names) + place, words)
        for place, name in enumerate(negatives)
        for words in _synonyms(name)
    ]
    budget = tokenizer.max_tokens - _SPECIALS - sum(counter(words) for _, words in everywhere)
    passes: list[list[tuple[int, str]]] = [[]]
    used = 0
    for vocab_id, name in enumerate(names):
        synonyms = _synonyms(name)
        needed = sum(counter(words) for words in synonyms)
        if needed > budget or not synonyms:
            beside = f" beside {len(negatives)} negatives" if negatives else ""
            raise ValueError(
                f"the name {name!r} has {needed} tokens with its separator, a prompt holds "
                f"1 to {max(budget, 0)}{beside}"
            )
        if used + needed > budget:
            passes.append([])
            used = 0
        passes[-1] += [(vocab_id, words) for words in synonyms]
        used += needed
    return tuple(_joined(rows + everywhere) for rows in passes)


def vocabulary_prompts(
    vocabulary: Vocabulary, tokenizer: PromptTokenizer
) -> tuple[TextPrompt, ...]:
    """All names of a vocabulary in as few prompts as hold them."""
    return names_prompts(vocabulary.names, tokenizer, allow_alike=True)


def _synonyms(name: str | Sequence[str]) -> list[str]:
    return [_words(one) for one in ([name] if isinstance(name, str) else name)]


def _words(name: str) -> str:
    words = name
    for separator in SEPARATORS:
        words = words.replace(separator, " ")
    words = spoken_name(words)
    if not words:
        raise ValueError(f"a name needs words, got {name!r}")
    return words


class _TokenCounter:
    """Tokens of names with their separators; names are told apart by their tokens."""

    def __init__(self, tokenizer: PromptTokenizer, allow_alike: bool) -> None:
        self.tokenizer, self.allow_alike = tokenizer, allow_alike
        self.seen: dict[tuple[int, ...], str] = {}

    def __call__(self, words: str) -> int:
        encoding = self.tokenizer.encode(words)
        ids = encoding.ids[1:-1]
        if ids in self.seen and not self.allow_alike:
            raise ValueError(
                f"{words!r} and {self.seen[ids]!r} are the same to the model: name one of them"
            )
        self.seen[ids] = words
        if set(encoding.texts[1:-1]) <= {"[UNK]"}:
            logger.warning(
                "the model's vocabulary has no word of %r: it cannot be told apart", words
            )
        return len(ids) + 1


def _joined(rows: Sequence[tuple[int, str]]) -> TextPrompt:
    caption, spans = "", []
    for _, words in rows:
        spans.append(((len(caption), len(caption) + len(words)),))
        caption += f"{words}. "
    return TextPrompt(caption.rstrip(), tuple(spans), tuple(vocab_id for vocab_id, _ in rows))
