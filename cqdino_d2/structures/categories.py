"""The categories an image selected."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class SelectedCategories:
    """The K categories that each image of a batch selected from the vocabulary.

    Attributes:
        features: (B, K, C) category queries as the detector sees them.
        vocab_ids: (B, K) int64, 0..V-1, ordered by falling score; 0 where not valid.
        valid: (B, K) bool, False where the vocabulary had fewer than K categories.
        logits: (B, V) the image's score for every category of the vocabulary.
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
