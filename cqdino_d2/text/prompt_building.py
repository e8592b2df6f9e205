"""Prompts from captions and from lists of names."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence

from ..structures import SEPARATORS, TextPrompt, Vocabulary, caption_of, words_of
from .prompt_parts import joined
from .prompt_tokenizer import PromptTokenizer
from .prompts import spoken_name

logger = logging.getLogger(__name__)
_PIECES = re.compile(rf"[^{re.escape(''.join(SEPARATORS))}]+")


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


def names_prompt(names: Sequence[str | Sequence[str]], first_id: int = 0) -> TextPrompt:
    """All names in one caption, however long.

    Args:
        names: what to look for; the place of a name is its vocab_id. A list of names instead of
            one are synonyms. Underscores are read as blanks, and so are the separators, which
            would cut a name.
        first_id: the vocab_id of the first name.

    Raises:
        ValueError: no names, or an empty one.
    """
    if isinstance(names, (str, bytes)) or not names:
        raise ValueError(f"expected a list of names, got {names!r}")
    return caption_of(
        (_words(one), (vocab_id,))
        for vocab_id, name in enumerate(names, first_id)
        for one in _synonyms(name)
    )


def vocabulary_prompt(vocabulary: Vocabulary) -> TextPrompt:
    """All names of a vocabulary in one caption."""
    return names_prompt(vocabulary.names)


def names_prompts(
    names: Sequence[str | Sequence[str]],
    tokenizer: PromptTokenizer,
    *,
    negatives: Sequence[str] = (),
    allow_alike: bool = False,
) -> tuple[TextPrompt, ...]:
    """As few prompts as hold all names in their order, each as full as the tokens allow.

    Names that hold no word of the model's vocabulary are warned of.

    Args:
        names: of `names_prompt`; synonyms stay in one prompt.
        tokenizer: its ``max_tokens`` holds for every prompt.
        negatives: further names, which stand in every prompt; their vocab_ids follow.
        allow_alike: whether several names, but no negatives, may be the same tokens; they then have
            equal scores.

    Raises:
        ValueError: no names, an empty one, one that no prompt can hold, or two that are the same
            tokens.
    """
    prompt = names_prompt(names)
    if negatives:
        prompt = joined(prompt, names_prompt(negatives, first_id=len(names)))
    check_phrases(prompt, tokenizer, may_be_alike=range(len(names) if allow_alike else 0))
    return tokenizer.split(prompt, everywhere=range(len(names), len(names) + len(negatives)))


def check_phrases(
    prompt: TextPrompt, tokenizer: PromptTokenizer, *, may_be_alike: Collection[int]
) -> None:
    """Warns of phrases that hold no word of the model's vocabulary.

    Args:
        prompt: of any length.
        tokenizer: of the model.
        may_be_alike: things that may be the same tokens as others of these.

    Raises:
        ValueError: two phrases of other things that are the same tokens, or one without words.
    """
    encoding = tokenizer.encode(prompt.caption)
    spans_of = prompt.spans or (((0, len(prompt.caption)),),)
    ids_of = prompt.phrase_ids or (0,)
    seen: dict[tuple[int, ...], tuple[str, int]] = {}
    for vocab_id, spans in zip(ids_of, spans_of, strict=True):
        words = " ".join(prompt.caption[begin:end] for begin, end in spans)
        tokens = [token for span in spans for token in encoding.tokens_of(*span)]
        texts = {encoding.texts[token] for token in tokens} - set(SEPARATORS)
        if not texts:
            raise ValueError(f"{words!r} has no word to look for")
        ids = tuple(encoding.ids[token] for token in tokens)
        other, other_id = seen.get(ids, (words, vocab_id))
        if ids in seen and not {vocab_id, other_id} <= set(may_be_alike):
            raise ValueError(f"{words!r} and {other!r} are the same to the model: name one of them")
        seen[ids] = words, vocab_id
        if texts == {"[UNK]"}:
            logger.warning(
                "the model's vocabulary has no word of %r: it cannot be told apart", words
            )


def _words(name: str) -> str:
    words = words_of(name)
    if not words:
        raise ValueError(f"a name needs words, got {name!r}")
    return words


def _synonyms(name: str | Sequence[str]) -> Sequence[str]:
    """A name as a list of one."""
    listed = [name] if isinstance(name, str) else name
    if not isinstance(listed, Sequence) or not all(isinstance(one, str) for one in listed):
        raise ValueError(f"a name is a text or a list of synonyms, got {name!r}")
    if not listed:
        raise ValueError(f"a name needs words, got {name!r}")
    return listed
