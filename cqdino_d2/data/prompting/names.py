"""Training captions of images whose boxes have categories: names of what is there, and of what not.

Positives are never repeated as negatives, nor is a name that reads the same as one of them; the
tokens of a caption, [CLS] and [SEP] among them, never exceed what the model reads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from ...structures import TextPrompt, Vocabulary, caption_of, words_of
from ..text_prompts import without_brackets

logger = logging.getLogger(__name__)
SPECIALS = 2  # [CLS] and [SEP]
_SHOWN = 5


class Encoded(Protocol):
    """A text in tokens, [CLS] first and [SEP] last."""

    ids: Sequence[int]
    texts: Sequence[str]
    offsets: Sequence[tuple[int, int]]


class Tokenizer(Protocol):
    """What counts tokens: `text.PromptTokenizer`."""

    max_tokens: int

    def encode(self, text: str) -> Encoded:
        """A text in tokens, whatever its length."""


@dataclass(frozen=True)
class Spoken:
    """Words that stand for a category.

    Attributes:
        words: as they stand in a caption.
        tokens: their numbers; words with the same ones are the same to the model.
    """

    words: str
    tokens: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Tokens that the words and their separator take."""
        return len(self.tokens) + 1


@dataclass(frozen=True)
class Drawn:
    """A caption of an image.

    Attributes:
        prompt: the caption with its phrases.
        lost: things that the image shows and for which the caption had no room.
    """

    prompt: TextPrompt
    lost: tuple[int, ...] = ()


class PromptNames:
    """The names of a vocabulary in words and tokens.

    Args:
        names: of the V categories.
        tokenizer: counts tokens; its ``max_tokens`` holds for every caption.
        source: what to call the dataset in messages.
        split_alternatives: whether a name such as 'bowl/basin' stands for either of two.
        drop_brackets: whether 'bow (weapon)' is 'bow'.

    Raises:
        ValueError: a name without words, or one that no caption can hold.
    """

    def __init__(
        self,
        names: Sequence[str],
        tokenizer: Tokenizer,
        source: str,
        *,
        split_alternatives: bool = True,
        drop_brackets: bool = False,
    ) -> None:
        self.budget = tokenizer.max_tokens - SPECIALS
        self.spoken: list[tuple[Spoken, ...]] = []
        for vocab_id, name in enumerate(names):
            wordings = _wordings(name, split_alternatives, drop_brackets)
            spoken = [Spoken(words, tuple(tokenizer.encode(words).ids[1:-1])) for words in wordings]
            if not spoken:
                raise ValueError(f"{source}: category {vocab_id} has the name {name!r}, no words")
            if long := [one for one in spoken if one.cost > self.budget]:
                raise ValueError(
                    f"{source}: the name {long[0].words!r} has {long[0].cost} tokens with its "
                    f"separator, a caption holds {self.budget}"
                )
            self.spoken.append(tuple(spoken))
        self._of_tokens: dict[tuple[int, ...], list[int]] = {}
        for vocab_id, spoken in enumerate(self.spoken):
            for one in spoken:
                self._of_tokens.setdefault(one.tokens, []).append(vocab_id)
        if shared := self.shared():
            logger.warning(
                "%s: %d names stand for several categories, which a prompt cannot tell apart: %s",
                source,
                len(shared),
                ", ".join(shared[:_SHOWN]),
            )

    def __len__(self) -> int:
        return len(self.spoken)

    def shared(self) -> list[str]:
        """The words that stand for several categories."""
        return [
            next(one.words for one in self.spoken[ids[0]] if one.tokens == tokens)
            for tokens, ids in self._of_tokens.items()
            if len(set(ids)) > 1
        ]

    def read_alike(self, vocab_ids: Iterable[int]) -> set[int]:
        """These categories and all that share words with one of them."""
        return {
            other
            for vocab_id in vocab_ids
            for one in self.spoken[vocab_id]
            for other in self._of_tokens[one.tokens]
        }


def _wordings(name: str, split_alternatives: bool, drop_brackets: bool) -> list[str]:
    """The different wordings of a name, without empty ones."""
    if drop_brackets:
        name = without_brackets(name)
    parts = name.split("/") if split_alternatives else [name]
    return list(dict.fromkeys(words for words in map(words_of, parts) if words))


class NameCaptions:
    """Draws the captions of one dataset.

    Args:
        vocabulary: of the dataset.
        names: of its categories.
        listing: 'drawn', or 'all': every caption has all names in their order.
        num_negatives: N; at most N names of categories that are absent.
        full_share: share of the captions that get N; the others get a number from 1 to N, all
            equally likely (mmdetection's setting: 85, half).
        verified_only: whether images whose record says what is verified to be absent (LVIS'
            'neg_category_ids') get negatives from that list alone; else it comes first.

    Raises:
        ValueError: another listing, or all names where a caption cannot hold them.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        names: PromptNames,
        *,
        listing: Literal["drawn", "all"] = "drawn",
        num_negatives: int = 85,
        full_share: float = 0.5,
        verified_only: bool = False,
    ) -> None:
        if listing not in ("drawn", "all") or num_negatives < 0 or not 0 <= full_share <= 1:
            raise ValueError(
                "expected a listing 'drawn' or 'all', num_negatives >= 0 and a full_share in 0..1, "
                f"got {listing!r}, {num_negatives} and {full_share}"
            )
        self.vocabulary, self.names = vocabulary, names
        self.num_negatives, self.full_share = num_negatives, full_share
        self.verified_only = verified_only
        self._all = self._all_names() if listing == "all" else None

    def _all_names(self) -> TextPrompt:
        pieces: dict[tuple[int, ...], tuple[str, list[int]]] = {}
        for vocab_id, spoken in enumerate(self.names.spoken):
            pieces.setdefault(spoken[0].tokens, (spoken[0].words, []))[1].append(vocab_id)
        needed = sum(len(tokens) + 1 for tokens in pieces)
        if needed > self.names.budget:
            raise ValueError(
                f"all {len(self.names)} names need {needed} tokens, a caption holds "
                f"{self.names.budget}: take listing='drawn'"
            )
        return caption_of(pieces.values())

    def draw(
        self,
        records: Sequence[Mapping[str, Any]],
        classes: Sequence[int],
        rng: np.random.Generator,
    ) -> Drawn:
        """A caption of an image.

        Args:
            records: those that the image is made of; what they say to be there, crowds and
                'not_exhaustive_category_ids' among it, is no negative.
            classes: vocab_ids of the boxes.
            rng: decides everything.
        """
        if self._all is not None:
            return Drawn(self._all)
        pieces: dict[tuple[int, ...], tuple[str, list[int]]] = {}
        lost, used = [], 0
        for vocab_id in rng.permutation(np.unique(np.asarray(classes, np.int64))).tolist():
            one = self._wording(vocab_id, rng)
            if one.tokens not in pieces and used + one.cost > self.names.budget:
                lost.append(vocab_id)
                continue
            used += one.cost * (one.tokens not in pieces)
            pieces.setdefault(one.tokens, (one.words, []))[1].append(vocab_id)
        candidates, most = self._negatives(records, classes, rng, at_least=not pieces)
        most += len(pieces)
        for vocab_id in candidates:
            one = self._wording(vocab_id, rng)
            if len(pieces) == most or used + one.cost > self.names.budget:
                break
            if one.tokens not in pieces:
                used += one.cost
                pieces[one.tokens] = (one.words, [vocab_id])
        order = rng.permutation(len(pieces)).tolist()
        listed = list(pieces.values())
        return Drawn(caption_of(listed[place] for place in order), tuple(sorted(lost)))

    def _wording(self, vocab_id: int, rng: np.random.Generator) -> Spoken:
        spoken = self.names.spoken[vocab_id]
        return spoken[int(rng.integers(len(spoken)))] if len(spoken) > 1 else spoken[0]

    def _negatives(
        self,
        records: Sequence[Mapping[str, Any]],
        classes: Sequence[int],
        rng: np.random.Generator,
        *,
        at_least: bool,
    ) -> tuple[list[int], int]:
        """What the image does not show, in the order in which it is taken, and how many are."""
        count = self.num_negatives
        if count and rng.random() >= self.full_share:
            count = int(rng.integers(1, count + 1))
        count = max(count, int(at_least))
        vocab_id_of = self.vocabulary.vocab_id_of
        shown = {int(vocab_id) for vocab_id in classes}
        for record in records:
            shown |= {one["category_id"] for one in record.get("annotations", ())}
            doubtful = record.get("not_exhaustive_category_ids", ())
            shown |= {vocab_id_of[one] for one in doubtful if one in vocab_id_of}
        banned = self.names.read_alike(shown)
        listed = records[0].get("neg_category_ids") if len(records) == 1 else None
        verified = [vocab_id_of[one] for one in listed or () if one in vocab_id_of]
        order = rng.permutation(verified).astype(np.int64).tolist()
        others = rng.permutation(len(self.names)).tolist()
        candidates = order if self.verified_only and listed is not None else [*order, *others]
        allowed = list(dict.fromkeys(one for one in candidates if one not in banned))
        if at_least and not allowed:  # a caption needs a word, even if nothing right can be asked
            return [one for one in others if one not in banned] or others, 1
        return allowed, count
