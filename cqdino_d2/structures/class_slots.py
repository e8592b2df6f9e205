"""What a query can be classified as: the class slots of a batch, and what they are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

NO_CATEGORY = -1


@dataclass(frozen=True)
class ClassQueries:
    """What a category source offers, before any selection.

    Attributes:
        features: (V, H), the same for every image, or (B, S, H) where images have their own.
        vocab_ids: (B, S) int64, -1 where a slot stands for no category. None: entry v is the
            category v.
        valid: (B, S) bool, False where a slot is empty; None: none is.
        position: (B, S, H) encoding for attention among the slots, or None.
        visible: (B, S, S) bool, True where slot i may look at slot j; None: all see all.
        shared: whether several slots may stand for one category, as tokens do for a word.
        projected: (V, H), what the first layer of the selection makes of the features, where that
            has been computed already.
    """

    features: Tensor
    vocab_ids: Tensor | None = None
    valid: Tensor | None = None
    position: Tensor | None = None
    visible: Tensor | None = None
    shared: bool = False
    projected: Tensor | None = None


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
        vocab_ids: (B, S) int64, 0..V-1, or -1 where a slot stands for no category. Selected ones
            are ordered by falling score.
        valid: (B, S) bool, False where a slot is empty.
        position: (B, S, C) encoding for attention among the slots, or None.
        visible: (B, S, S) bool, True where slot i may look at slot j; None: all see all.
        shared: whether several slots may stand for one category.
        scores: of the whole vocabulary, where something selects; else None.
    """

    features: Tensor
    vocab_ids: Tensor
    valid: Tensor
    position: Tensor | None = None
    visible: Tensor | None = None
    shared: bool = False
    scores: CategoryScores | None = None

    @property
    def num_slots(self) -> int:
        """S."""
        return self.vocab_ids.shape[1]

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
        rows = self._stands_for(image, vocab_ids).float()
        return rows / rows.sum(dim=1, keepdim=True).clamp(min=1) if normalised else rows

    def slot_ids(self, image: int, vocab_ids: Tensor) -> Tensor:
        """(N,) int64, the first slot of each of (N,) categories, or -1 where there is none."""
        hits = self._stands_for(image, vocab_ids)
        return torch.where(hits.any(dim=1), hits.int().argmax(dim=1), NO_CATEGORY)

    def _stands_for(self, image: int, vocab_ids: Tensor) -> Tensor:
        """(N, S) bool, which slots of an image stand for each of (N,) categories."""
        return (vocab_ids[:, None] == self.vocab_ids[image]) & self.valid[image]

    def pool(self, values: Tensor, image: int) -> tuple[Tensor, Tensor]:
        """From values of slots to values of categories: the mean over a category's slots.

        Args:
            values: (N, S), for example probabilities; empty slots are left out.
            image: position of the image in the batch.

        Returns:
            (G,) vocab_ids, each once: in the order of the slots where none are shared, else
            ascending; and (N, G).
        """
        counted = self.valid[image] & (self.vocab_ids[image] != NO_CATEGORY)
        vocab_ids, values = self.vocab_ids[image][counted], values[:, counted]
        if not self.shared:
            return vocab_ids, values
        groups, group_of, counts = vocab_ids.unique(return_inverse=True, return_counts=True)
        sums = values.new_zeros(len(values), len(groups)).index_add(1, group_of, values)
        return groups, sums / counts

    def category_features(self) -> Tensor:
        """(B, S, C): at each slot the mean over all slots of the same category."""
        if not self.shared:
            return self.features
        means = []
        for image, features in enumerate(self.features):
            _, group_of, counts = self.vocab_ids[image].unique(
                return_inverse=True, return_counts=True
            )
            sums = features.new_zeros(len(counts), features.shape[1])
            sums = sums.index_add(0, group_of, features) / counts[:, None]
            means.append(sums[group_of])
        return torch.stack(means)

    def selection_scores(self, image: int) -> Tensor:
        """(valid,) how probable the image finds its selected categories, 0..1, falling.

        Raises:
            ValueError: nothing was selected by score.
        """
        if self.scores is None:
            raise ValueError("these slots were not selected, so that they have no scores")
        vocab_ids = self.vocab_ids[image][self.valid[image]]
        return self.scores.logits[image, vocab_ids].sigmoid()
