"""Prediction heads: similarity to the selected categories, and boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..layers import MLP
from ..structures import SelectedCategories

MASKED_LOGIT = -1e4


class ContrastiveHead(nn.Module):
    """Logit of query q and category t: q . t / sqrt(C) + bias (paper, section 3.4)."""

    def __init__(self, *, prior: float = 0.01) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([-math.log((1 - prior) / prior)]))

    def forward(self, queries: Tensor, categories: SelectedCategories) -> Tensor:
        """(B, Q, C) -> (B, Q, K); empty slots get a logit whose sigmoid is 0."""
        scale = queries.shape[-1] ** -0.5
        logits = queries @ categories.features.transpose(1, 2) * scale + self.bias
        return logits.masked_fill(~categories.valid[:, None], MASKED_LOGIT)


class BoxHead(MLP):
    """(..., C) -> (..., 4): what is added to a reference box before the sigmoid; starts at 0."""

    def __init__(self, *, dim: int) -> None:
        super().__init__(dim, dim, dim, 4)
        nn.init.zeros_(self[-1].weight)
        nn.init.zeros_(self[-1].bias)
