"""Layers in which image tokens look at each other."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import FeedForward, MultiScaleDeformableAttention
from ..structures import ImageTokens


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention of the image tokens, then a feed-forward block.

    Args:
        dim: width C of the tokens.
        num_levels: L, levels that are looked at.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_levels: int,
        hidden_dim: int = 2048,
        num_heads: int = 8,
        num_points: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = MultiScaleDeformableAttention(
            dim=dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim=dim, hidden_dim=hidden_dim, dropout=dropout)

    def forward(self, tokens: ImageTokens, references: Tensor) -> Tensor:
        """References (B, T, L, 2) -> features (B, T, C)."""
        features = tokens.features
        attended = self.attention(features + tokens.position, references, tokens)
        return self.feed_forward(self.norm(features + self.dropout(attended)))
