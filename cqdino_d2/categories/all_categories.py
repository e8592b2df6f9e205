"""No selection: the detector sees the whole vocabulary in every image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import Linear
from ..structures import ImageTargets, SelectedCategories


class AllCategories(nn.Module):
    """Takes the place of `ImageGuidedSelection` and lets all V categories pass, in their order.

    It scores nothing: all logits are zero and there is nothing that a category loss could train
    (give the criterion none).

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
    ) -> SelectedCategories:
        """All categories for every image.

        Args:
            image_map: (B, C_map, h, w), for the size of the batch alone.
            queries: (V, H).
            targets: not looked at.

        Returns:
            K = V slots; slot_id and vocab_id are the same number.
        """
        batch, num_categories = len(image_map), len(queries)
        vocab_ids = torch.arange(num_categories, device=queries.device).expand(batch, -1)
        return SelectedCategories(
            features=self.output_projection(queries).expand(batch, -1, -1),
            vocab_ids=vocab_ids,
            valid=torch.ones_like(vocab_ids, dtype=torch.bool),
            logits=queries.new_zeros(batch, num_categories),
        )
