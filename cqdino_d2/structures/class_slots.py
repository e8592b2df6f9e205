"""What a query can be classified as: the class slots of a batch, and what they are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

NO_CATEGORY = -1


@dataclass(frozen=True)
class Phrases:
    """Which slots together stand for which categories, where these are tokens of a text.

    Attributes:
        members: (B, P, S) bool, the slots of each phrase; they may overlap.
        vocab_ids: (B, P) int64, the category a phrase names, -1 where an image has fewer phrases.
            Several phrases may name one category: the best of them counts.
    """

    members: Tensor
    vocab_ids: Tensor


@dataclass(frozen=True)
class ClassQueries:
    """What a category source offers, before any selection.

    Attributes:
        features: (V, H), the same for every image, or (B, S, H) where images have their own.
        valid: (B, S) bool, False where a slot is empty; None: none is.
        position: (B, S, H) encoding for attention among the slots, or None.
        visible: (B, S, S) bool, True where slot i may look at slot j; None: all see all.
        phrases: which of the S stand for what; None: entry v is the category v.
        projected: (V, H), what the first layer of the selection makes of the features, where that
            has been computed already.
    """

    features: Tensor
    valid: Tensor | None = None
    position: Tensor | None = None
    visible: Tensor | None = None
    phrases: Phrases | None = None
    projected: Tensor | None = None

    def rows(self, places: Sequence[int]) -> ClassQueries:
        """The queries of some of the B images, in that order; only where images have their own."""
        index = list(places)
        members = {
            name: value[index] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        if self.phrases is not None:
            own = self.phrases
            members["phrases"] = Phrases(own.members[index], own.vocab_ids[index])
        return replace(self, **members)


@dataclass(frozen=True)
class CategoryScores:
    """How probable an image finds every category of the vocabulary.

    Attributes:
        logits: (B, V), -inf for what was not requested.
        auxiliary: (B, V) logits of a first stage that has its own, None without.
    """

    logits: Tensor
    auxiliary: Tensor | None = None

    def among(self, requested: Tensor, num_categories: int) -> CategoryScores:
        """Scores of some categories in terms of the whole vocabulary.

        Args:
            requested: (n,) vocab_ids that the present columns 0..n-1 stand for.
            num_categories: V.
        """
        logits = self.logits.new_full((len(self.logits), num_categories), -torch.inf)
        return CategoryScores(logits.index_copy(1, requested, self.logits))


@dataclass(frozen=True)
class ClassSlots:
    """The S things of each image that a query can be classified as.

    S is K selected categories (CQ-DINO), all V (a classification head) or the tokens of a prompt.

    Attributes:
        features: (B, S, C) as the detector sees them.
        vocab_ids: (B, S) int64, 0..V-1, or -1 where a slot by itself stands for no category.
            Selected ones are ordered by falling score.
        valid: (B, S) bool, False where a slot is empty.
        position: (B, S, C) encoding for attention among the slots, or None.
        visible: (B, S, S) bool, True where slot i may look at slot j; None: all see all.
        phrases: which slots stand for which categories together; None: each for its own.
        scores: of the whole vocabulary, where something selects; else None.
    """

    features: Tensor
    vocab_ids: Tensor
    valid: Tensor
    position: Tensor | None = None
    visible: Tensor | None = None
    phrases: Phrases | None = None
    scores: CategoryScores | None = None

    @property
    def num_slots(self) -> int:
        """S."""
        return self.vocab_ids.shape[1]

    @property
    def num_entries(self) -> int:
        """What stands for a category by itself: S slots, or P phrases if these do so together."""
        return self.num_slots if self.phrases is None else self.phrases.vocab_ids.shape[1]

    def with_features(self, features: Tensor) -> ClassSlots:
        """The same slots with other features (B, S, C)."""
        return replace(self, features=features)

    def multi_hot(self, image: int, vocab_ids: Tensor, *, normalised: bool = False) -> Tensor:
        """Class targets: which slots stand for each of some categories.

        Args:
            image: position of the image in the batch.
            vocab_ids: (N,) int64.
            normalised: divides a row by its number of ones.

        Returns:
            (N, S) float32. A row is zero where the image has no slot of the category.
        """
        if self.phrases is None:
            rows = vocab_ids[:, None] == self.vocab_ids[image]
        else:
            named = (vocab_ids[:, None] == self.phrases.vocab_ids[image]).float()
            rows = named @ self.phrases.members[image].float() > 0
        rows = (rows & self.valid[image] & (vocab_ids != NO_CATEGORY)[:, None]).float()
        return rows / rows.sum(dim=1, keepdim=True).clamp(min=1) if normalised else rows

    def pool(self, values: Tensor, image: int) -> tuple[Tensor, Tensor]:
        """From values of slots to values of categories.

        The value of a phrase is the mean over its slots, that of a category the highest of its
        phrases.

        Args:
            values: (N, S), for example probabilities; empty slots are left out.
            image: position of the image in the batch.

        Returns:
            (G,) vocab_ids, each once: in the order of the slots, or ascending where there are
            phrases; and (N, G).
        """
        if self.phrases is None:
            counted = self.valid[image] & (self.vocab_ids[image] != NO_CATEGORY)
            return self.vocab_ids[image][counted], values[:, counted]
        members = (self.phrases.members[image] & self.valid[image]).to(values.dtype)
        counts = members.sum(dim=1)
        used = (self.phrases.vocab_ids[image] != NO_CATEGORY) & (counts > 0)
        means = values @ members[used].T / counts[used]
        vocab_ids, group_of = self.phrases.vocab_ids[image][used].unique(return_inverse=True)
        best = means.new_full((len(values), len(vocab_ids)), -torch.inf)
        index = group_of.expand(len(values), -1)
        return vocab_ids, best.scatter_reduce(1, index, means, "amax")

    def entry_ids(self, image: int, vocab_ids: Tensor) -> Tensor:
        """(N,) int64, the first entry (see `num_entries`) of each of (N,) categories, or -1."""
        if self.phrases is None:
            own = self.vocab_ids[image].masked_fill(~self.valid[image], NO_CATEGORY)
        else:
            own = self.phrases.vocab_ids[image]
        hits = (vocab_ids[:, None] == own) & (own != NO_CATEGORY)
        return torch.where(hits.any(dim=1), hits.int().argmax(dim=1), NO_CATEGORY)

    def entry_features(self) -> Tensor:
        """(B, S, C), or (B, P, C): the mean over the slots of each phrase."""
        if self.phrases is None:
            return self.features
        members = (self.phrases.members & self.valid[:, None]).to(self.features.dtype)
        return members @ self.features / members.sum(dim=-1, keepdim=True).clamp(min=1)

    def selection_scores(self, image: int) -> Tensor:
        """(valid,) how probable the image finds its selected categories, 0..1, falling.

        Raises:
            ValueError: nothing was selected by score.
        """
        if self.scores is None:
            raise ValueError("these slots were not selected, so that they have no scores")
        vocab_ids = self.vocab_ids[image][self.valid[image]]
        return self.scores.logits[image, vocab_ids].sigmoid()
