"""No selection: the detector sees the whole vocabulary in every image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import Linear
from ..structures import CategoryOffer, ImageTargets, SelectedCategories


class AllCategories(nn.Module):
    """Takes the place of `ImageGuidedSelection` and lets all V categories pass, in their order.

    It scores nothing: all logits are zero (so that every category is as probable as not) and there
    is nothing that a category loss could train (give the criterion none).

    Args:
        dim: width H of the category queries.
        output_dim: C, width of the categories for the detector; None leaves them as they are.
    """

    def __init__(self, *, dim: int, output_dim: int | None = None) -> None:
        super().__init__()
        self.output_projection = nn.Identity() if output_dim is None else Linear(dim, output_dim)

    def forward(
        self,
        image_map: Tensor,
        queries: Tensor,
        targets: Sequence[ImageTargets] | None = None,
        offer: CategoryOffer | None = None,
    ) -> SelectedCategories:
        """All categories for every image.

        Args:
            image_map: (B, C_map, h, w), for the size of the batch alone.
            queries: (V, H).
            targets: not looked at.
            offer: the slots of other categories are masked; not in training.

        Returns:
            K = V slots; slot_id and vocab_id are the same number.

        Raises:
            ValueError: an offer in training, or one that asks for a number of categories.
        """
        if offer is not None and (self.training or offer.num_selected is not None):
            raise ValueError(
                "AllCategories selects nothing: an offer may name categories, for inference, but "
                f"not how many to select; got {offer}, training: {self.training}"
            )
        batch, num_categories = len(image_map), len(queries)
        vocab_ids = torch.arange(num_categories, device=queries.device).expand(batch, -1)
        offered = torch.ones(num_categories, dtype=torch.bool, device=queries.device)
        if offer is not None and offer.vocab_ids is not None:
            offered = torch.zeros_like(offered).index_fill(0, offer.vocab_ids, True)
        logits = queries.new_zeros(num_categories).masked_fill(~offered, -torch.inf)
        return SelectedCategories(
            features=self.output_projection(queries).expand(batch, -1, -1),
            vocab_ids=vocab_ids,
            valid=offered.expand(batch, -1),
            logits=logits.expand(batch, -1),
        )
