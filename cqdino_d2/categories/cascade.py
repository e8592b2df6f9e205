"""Only the categories that look likely after the first layer go through the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Cascade(nn.Module):
    """The auxiliary score that sorts out categories early.

    Args:
        dim: width H of the category queries.
        keep: M, categories that go on.

    Raises:
        ValueError: no category goes on.
    """

    def __init__(self, *, dim: int, keep: int) -> None:
        super().__init__()
        if keep < 1:
            raise ValueError(f"a cascade must keep at least 1 category, got {keep}")
        self.keep = keep
        self.score = nn.Linear(dim, 1)

    def complete(self, auxiliary: Tensor, kept_ids: Tensor, kept_logits: Tensor) -> Tensor:
        """Logits of all categories from those of the M that were kept.

        The others have their auxiliary logit, lowered as far as needed for none of them to be above
        a kept one. It carries no gradient: they learn from the auxiliary logits' own loss.

        Args:
            auxiliary: (B, V).
            kept_ids: (B, M) vocab_ids.
            kept_logits: (B, M).

        Returns:
            (B, V).
        """
        rest = auxiliary.detach()
        best_of_rest = rest.scatter(1, kept_ids, -torch.inf).amax(dim=1, keepdim=True)
        lowest = kept_logits.detach().amin(dim=1, keepdim=True)
        rest = rest - (best_of_rest - lowest).clamp(min=0)
        return rest.to(kept_logits.dtype).scatter(1, kept_ids, kept_logits)
