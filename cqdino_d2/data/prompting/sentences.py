"""Training captions of images that have their own text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...annotations.grounded_texts import GroundedTexts
from ...structures import SEPARATORS, TextPrompt, words_of
from .names import SPECIALS, Drawn, Tokenizer

_WORD = re.compile(r"\w+")
_FUNCTION_WORDS = frozenset(
    "a an the this that these those some any one two three it its he his him she her they them "
    "their who which what and or of in on at to by for from with is are".split()
)
_POOL_TEXTS = 2000  # evenly spread texts whose phrases may become negatives


def phrase_pool(texts: GroundedTexts) -> list[str]:
    """Different phrases of a set, for negatives; those of function words alone are left out."""
    rows = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), _POOL_TEXTS)).astype(int))
    pool: dict[str, str] = {}
    for row in rows.tolist():
        caption = texts.captions[row]
        for spans in texts.phrases[row]:
            words = words_of(" ".join(caption[first:last] for first, last in spans))
            if _content(words):
                pool.setdefault(words.casefold(), words)
    return list(pool.values())


def _content(text: str) -> set[str]:
    """The words that say something."""
    return set(_WORD.findall(text.casefold())) - _FUNCTION_WORDS


def cut_prompt(prompt: TextPrompt, tokenizer: Tokenizer) -> Drawn:
    """The part of a prompt that the model can read; phrases beyond it are lost.

    Args:
        prompt: ends with a separator.
        tokenizer: counts tokens.
    """
    encoding = tokenizer.encode(prompt.caption)
    if len(encoding.ids) <= tokenizer.max_tokens:
        return Drawn(prompt)
    last = tokenizer.max_tokens - SPECIALS - 1  # a separator comes behind it
    while last > 0 and encoding.texts[last + 1].startswith("##"):
        last -= 1
    end = encoding.offsets[last][1]
    caption = prompt.caption[:end]
    caption += "" if caption.endswith(SEPARATORS) else "."
    kept = [
        place for place, spans in enumerate(prompt.spans) if all(last <= end for _, last in spans)
    ]
    ids = prompt.phrase_ids
    left = {ids[place] for place in kept}
    return Drawn(
        TextPrompt(
            caption,
            tuple(prompt.spans[place] for place in kept),
            tuple(ids[place] for place in kept),
        ),
        tuple(sorted(set(ids) - left)),
    )


def with_whole_text(prompt: TextPrompt) -> TextPrompt:
    """A prompt without phrases as one whose phrase is all of its words but the last separator."""
    if prompt.spans:
        return prompt
    end = len(prompt.caption.rstrip("".join(SEPARATORS) + " "))
    return TextPrompt(prompt.caption, (((0, end),),), (0,))


class SentenceCaptions:
    """Makes the captions of one set of texts.

    Args:
        tokenizer: counts tokens; its ``max_tokens`` holds for every caption.
        num_negatives: the most phrases of other texts that are added to a caption as sentences of
            their own; none shares a word that says something with the caption.
        pool: these phrases.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, num_negatives: int = 0, pool: Sequence[str] = ()
    ) -> None:
        self.tokenizer, self.num_negatives = tokenizer, num_negatives
        self._pool = [(words, _content(words)) for words in pool]

    def draw(
        self,
        records: Sequence[Mapping[str, Any]],
        classes: Sequence[int],
        rng: np.random.Generator,
    ) -> Drawn:
        """The caption of an image.

        Args:
            records: one, with a 'prompt'.
            classes: not needed: the prompt says what there may be.
            rng: decides negatives.

        Raises:
            ValueError: several records.
        """
        if len(records) != 1:
            raise ValueError(
                f"an image of {len(records)} others cannot have the texts of all: set mosaic to 0 "
                "for sets of texts"
            )
        drawn = self.cut(records[0]["prompt"])
        if not self.num_negatives or not self._pool:
            return drawn
        return Drawn(self._with_negatives(drawn.prompt, rng), drawn.lost)

    def cut(self, prompt: TextPrompt) -> Drawn:
        """The part of a prompt that the model can read, as phrases."""
        return cut_prompt(with_whole_text(prompt), self.tokenizer)

    def _with_negatives(self, prompt: TextPrompt, rng: np.random.Generator) -> TextPrompt:
        budget = self.tokenizer.max_tokens - len(self.tokenizer.encode(prompt.caption).ids)
        said, chosen = _content(prompt.caption), []
        wanted = int(rng.integers(1, self.num_negatives + 1))
        for place in rng.permutation(len(self._pool)).tolist():
            words, content = self._pool[place]
            if len(chosen) == wanted:
                break
            if content & said:
                continue
            cost = len(self.tokenizer.encode(f"{words}.").ids) - SPECIALS
            if cost > budget:
                break
            budget -= cost
            said |= content
            chosen.append(words)
        return _among(prompt, chosen, int(rng.integers(len(chosen) + 1)))


def _among(prompt: TextPrompt, others: Sequence[str], before: int) -> TextPrompt:
    """A prompt with other phrases around it, each a thing of its own.

    Args:
        prompt: ends with a separator.
        others: words.
        before: how many of them stand before it.
    """
    start = "".join(f"{words}. " for words in others[:before])
    spans = [
        tuple((first + len(start), last + len(start)) for first, last in own)
        for own in prompt.spans
    ]
    ids = list(prompt.phrase_ids)
    caption = start + prompt.caption
    places = []
    begin = 0
    for words in others[:before]:
        places.append((begin, begin + len(words)))
        begin += len(words) + 2
    for words in others[before:]:
        places.append((len(caption) + 1, len(caption) + 1 + len(words)))
        caption += f" {words}."
    first = max(ids, default=-1) + 1
    spans += [(place,) for place in places]
    ids += range(first, first + len(places))
    return TextPrompt(caption, tuple(spans), tuple(ids))
