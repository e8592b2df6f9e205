"""Class queries that have been computed."""

from __future__ import annotations

import torch
from torch import nn

from ..structures import ClassQueries, ClassRequest


class FixedQueries(nn.Module):
    """A category source for inference alone that keeps what another one gave.

    Args:
        queries: that hold for every image and request: (V, H) features and, where they have been
            prepared, (V, H) projections. They become buffers.
        dtype: in which the features are kept; None keeps all in the type they have.
    """

    def __init__(self, queries: ClassQueries, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        features = queries.features.detach()
        self.register_buffer("features", features.clone() if dtype is None else features.to(dtype))
        projected = queries.projected if dtype is None else None
        self.register_buffer("projected", None if projected is None else projected.detach().clone())

    def forward(self, request: ClassRequest | None = None) -> ClassQueries:
        """The queries."""
        return ClassQueries(self.features, projected=self.projected)
