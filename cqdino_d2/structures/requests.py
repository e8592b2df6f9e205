"""What a caller asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import index

import torch
from torch import Tensor

from .class_slots import NO_CATEGORY, ClassQueries


@dataclass(frozen=True)
class TextPrompt:
    """Words to look for in one image.

    Attributes:
        caption: the text.
        spans: for every phrase the (first, last + 1) characters of the caption that belong to it;
            a phrase may have several. Without any the whole caption is one thing, whose score is
            that of its best token. Lists do as well as tuples.
        vocab_ids: which thing each phrase names; phrases that name the same are alternatives.
            None: phrase i names thing i.

    Raises:
        TypeError: a caption that is no text.
        ValueError: a span outside the caption, empty, a phrase without any, no spans at all, or
            another number of ``vocab_ids``.
    """

    caption: str
    spans: tuple[tuple[tuple[int, int], ...], ...] = ()
    vocab_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.caption, str):
            raise TypeError(f"expected a caption, got {type(self.caption).__name__}")
        object.__setattr__(self, "spans", _checked_spans(self.spans))
        for place, own in enumerate(self.spans):
            bad = [span for span in own if not 0 <= span[0] < span[1] <= len(self.caption)]
            if bad or not own:
                raise ValueError(
                    f"phrase {place} of the prompt needs spans within its caption of "
                    f"{len(self.caption)} characters, got {list(own)}"
                )
        if self.vocab_ids is not None:
            object.__setattr__(self, "vocab_ids", self._checked_ids(self.vocab_ids))

    def _checked_ids(self, given: Iterable[int]) -> tuple[int, ...]:
        try:
            ids = tuple(map(index, given))
        except TypeError:
            ids = (NO_CATEGORY,)
        if len(ids) != len(self.spans) or min(ids, default=0) < 0:
            raise ValueError(
                f"vocab_ids must be one number from 0 on for each of the {len(self.spans)} "
                f"phrases, got {self.vocab_ids!r}"
            )
        return ids

    @property
    def phrase_ids(self) -> tuple[int, ...]:
        """The thing that each phrase names."""
        return tuple(range(len(self.spans))) if self.vocab_ids is None else self.vocab_ids

    def words(self, phrase: int) -> str:
        """What a phrase says, its spans joined by a blank."""
        return " ".join(self.caption[begin:end] for begin, end in self.spans[phrase])


def _checked_spans(
    spans: Iterable[Iterable[tuple[int, int]]],
) -> tuple[tuple[tuple[int, int], ...], ...]:
    try:
        return tuple(tuple((index(a), index(b)) for a, b in own) for own in spans)
    except (TypeError, ValueError):
        raise ValueError(
            "spans are for each phrase one or several of (first, last + 1) characters, such as "
            f"(((0, 5),), ((7, 12),)); got {spans!r}"
        ) from None


@dataclass(frozen=True)
class ClassRequest:
    """What images may be searched for, where that is not the model's own choice.

    Attributes:
        vocab_ids: (n,) int64, each once; None stands for the whole vocabulary.
        num_selected: K, if not the model's own.
        prompts: one for each image; only for models that read words.
        queries: ready class queries, a row for each image; likewise.
        passes: what every image is searched for, one after the other; likewise. Rows of one pass
            go through the model at once.
        negatives: vocab_ids in the passes that do not count towards the number of detections that
            an image keeps: each pass may find them again.

    Raises:
        ValueError: no category, a category twice, K below 1, or more than one of categories,
            prompts, queries and passes.
    """

    vocab_ids: Tensor | None = None
    num_selected: int | None = None
    prompts: tuple[TextPrompt, ...] | None = None
    queries: ClassQueries | None = None
    passes: tuple[ClassQueries, ...] | None = None
    negatives: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ids = self.vocab_ids
        if ids is not None and (ids.ndim != 1 or not 0 < len(ids) == len(ids.unique())):
            raise ValueError(
                f"a request needs (n,) categories, n > 0, each once; got {ids.tolist()}"
            )
        if self.num_selected is not None and self.num_selected < 1:
            raise ValueError(f"num_selected (K) must be at least 1, got {self.num_selected}")
        wanted = (ids, self.prompts, self.queries, self.passes)
        if sum(given is not None for given in wanted) > 1:
            raise ValueError(
                "a request names either categories or prompts, queries or passes, got several"
            )

    def to(self, device: torch.device) -> ClassRequest:
        """The same request on a device."""
        return (
            self if self.vocab_ids is None else replace(self, vocab_ids=self.vocab_ids.to(device))
        )
