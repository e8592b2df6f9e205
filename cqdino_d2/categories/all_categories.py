"""No selection: the detector sees the whole vocabulary in every image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..structures import NO_CATEGORY, ClassQueries, ClassRequest, ClassSlots, ImageTargets


class AllCategories(nn.Module):
    """Takes the place of `ImageGuidedSelection` and lets all V categories pass, in their order.

    It scores nothing, so there is nothing that a category loss could train.

    Args:
        dim: width H of the category queries.
        output_dim: C, width of the slots for the detector; None leaves the queries unchanged.
    """

    num_selected = None
    is_deterministic = True

    def __init__(self, *, dim: int, output_dim: int | None = None) -> None:
        super().__init__()
        self.output_projection = nn.Identity() if output_dim is None else nn.Linear(dim, output_dim)

    def forward(
        self,
        image_map: Tensor,
        queries: ClassQueries,
        targets: Sequence[ImageTargets] | None = None,
        request: ClassRequest | None = None,
    ) -> ClassSlots:
        """All categories for every image.

        Args:
            image_map: (B, C_map, h, w), for the size of the batch alone.
            queries: of the V categories.
            targets: not looked at.
            request: the slots of other categories are empty; not in training.

        Returns:
            S = V slots; slot_id and vocab_id are the same number, apart from empty slots.

        Raises:
            ValueError: a request in training, or one for a number of categories.
        """
        if request is not None and (self.training or request.num_selected is not None):
            raise ValueError(
                "AllCategories selects nothing: a request may name categories, for inference, but "
                f"not how many to select; got {request}, training: {self.training}"
            )
        features = queries.features
        batch, num_categories = len(image_map), len(features)
        vocab_ids = torch.arange(num_categories, device=features.device)
        wanted = torch.ones_like(vocab_ids, dtype=torch.bool)
        if request is not None and request.vocab_ids is not None:
            wanted = torch.zeros_like(wanted).index_fill(0, request.vocab_ids, True)
            vocab_ids = vocab_ids.masked_fill(~wanted, NO_CATEGORY)
        return ClassSlots(
            features=self.output_projection(features).expand(batch, -1, -1),
            vocab_ids=vocab_ids.expand(batch, -1),
            valid=wanted.expand(batch, -1),
        )
