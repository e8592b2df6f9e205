"""Only the categories that look likely after the first attention go through the whole selection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_GRADIENT = 0.1  # share that goes back; docs/benchmarks/categories.md has what 0 and 1 do


class Cascade(nn.Module):
    """The auxiliary score that sorts out categories early.

    Args:
        dim: width H of the category queries.
        keep: M, categories that go on.

    Raises:
        ValueError: no category is passed on.
    """

    def __init__(self, *, dim: int, keep: int) -> None:
        super().__init__()
        if keep < 1:
            raise ValueError(f"a cascade must keep at least 1 category, got {keep}")
        self.keep = keep
        # ReLU must not work in place: recomputation may keep the first layer's result
        self.mlp = nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, 1))

    def score(self, looks: Tensor) -> Tensor:
        """Categories that have looked at the image (B, N, H) -> auxiliary logits (B, N).

        What made the looks learns a little from it, so that they tell enough early on, but not so
        much that the rest suffers.
        """
        return self.mlp(looks.detach().lerp(looks, _GRADIENT)).squeeze(-1)

    def complete(self, auxiliary: Tensor, kept_ids: Tensor, kept_logits: Tensor) -> Tensor:
        """Logits of all categories from those of the M that were kept.

        The others have their auxiliary logit, lowered as far as needed for none of them to be above
        a kept one.

        Args:
            auxiliary: (B, V).
            kept_ids: (B, M) vocab_ids.
            kept_logits: (B, M).

        Returns:
            (B, V).
        """
        best_of_rest = auxiliary.scatter(1, kept_ids, -torch.inf).amax(dim=1, keepdim=True)
        lowest = kept_logits.amin(dim=1, keepdim=True)
        rest = (auxiliary - (best_of_rest - lowest).clamp(min=0)).to(kept_logits.dtype)
        rest = torch.minimum(rest, lowest)  # which rounding may have left it above
        return rest.scatter(1, kept_ids, kept_logits)
