"""The categories an image selected."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class CategoryOffer:
    """What images may select from, where that is not the whole vocabulary, and how many.

    Attributes:
        vocab_ids: (n,) int64, each once; None offers all.
        num_selected: K, if not the model's own.

    Raises:
        ValueError: nothing is offered, a category twice, or K below 1.
    """

    vocab_ids: Tensor | None = None
    num_selected: int | None = None

    def __post_init__(self) -> None:
        ids = self.vocab_ids
        if ids is not None and (ids.ndim != 1 or not 0 < len(ids) == len(ids.unique())):
            raise ValueError(
                f"an offer needs (n,) categories, n > 0, each once; got {ids.tolist()}"
            )
        if self.num_selected is not None and self.num_selected < 1:
            raise ValueError(f"num_selected (K) must be at least 1, got {self.num_selected}")

    def to(self, device: torch.device) -> CategoryOffer:
        """The same offer on a device."""
        return (
            self if self.vocab_ids is None else replace(self, vocab_ids=self.vocab_ids.to(device))
        )


@dataclass(frozen=True)
class SelectedCategories:
    """The K categories that each image of a batch selected from the vocabulary.

    Attributes:
        features: (B, K, C) category queries as the detector sees them.
        vocab_ids: (B, K) int64, 0..V-1, ordered by falling score; 0 where not valid.
        valid: (B, K) bool, False where the vocabulary had fewer than K categories.
        logits: (B, V) the image's score for every category of the vocabulary; -inf for what was
            not offered.
        auxiliary_logits: (B, V) scores of a first layer that has its own, None without.
    """

    features: Tensor
    vocab_ids: Tensor
    valid: Tensor
    logits: Tensor
    auxiliary_logits: Tensor | None = None

    def with_features(self, features: Tensor) -> SelectedCategories:
        """The same selection with other features (B, K, C)."""
        return replace(self, features=features)

    def trained_logits(self) -> dict[str, Tensor]:
        """Every (B, V) that the category loss applies to, by the suffix of the loss's name."""
        auxiliary = self.auxiliary_logits
        return {"": self.logits} | ({} if auxiliary is None else {"_auxiliary": auxiliary})

    def among(self, offered: Tensor, num_categories: int) -> SelectedCategories:
        """A selection from a part of the vocabulary, in terms of the whole.

        Args:
            offered: (n,) vocab_ids that the present ids and logits (0..n-1) stand for.
            num_categories: V.
        """
        logits = self.logits.new_full((len(self.logits), num_categories), -torch.inf)
        logits = logits.index_copy(1, offered, self.logits)
        vocab_ids = offered[self.vocab_ids]
        return replace(self, vocab_ids=vocab_ids, logits=logits, auxiliary_logits=None)

    def selection_scores(self, image: int) -> Tensor:
        """(valid,) how probable the image finds its selected categories, 0..1, falling."""
        vocab_ids = self.vocab_ids[image][self.valid[image]]
        return self.logits[image, vocab_ids].sigmoid()

    def slot_ids(self, image: int, vocab_ids: Tensor) -> Tensor:
        """Finds categories among those selected.

        Args:
            image: position of the image in the batch.
            vocab_ids: (N,) int64.

        Returns:
            (N,) int64 slot ids, 0..K-1, or -1 where the category was not selected.
        """
        hits = (vocab_ids[:, None] == self.vocab_ids[image]) & self.valid[image]
        return torch.where(hits.any(dim=1), hits.int().argmax(dim=1), -1)
