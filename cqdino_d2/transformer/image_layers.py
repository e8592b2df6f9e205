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


class AttentionEncoderLayer(nn.Module):
    """Self-attention of all image tokens with each other, then a feed-forward block.

    Its cost grows with the square of their number: for coarse levels (arXiv 2405.10300, section
    2.2; 2304.08069, section 4.2).

    Args:
        dim: width C of the tokens.
        num_levels: of the tokens, as an encoder says it; no weight depends on it.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_levels: int,
        hidden_dim: int = 2048,
        num_heads: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim=dim, hidden_dim=hidden_dim, dropout=dropout)

    def forward(self, tokens: ImageTokens, references: Tensor) -> Tensor:
        """References, which are not looked at -> features (B, T, C)."""
        features, padding = tokens.features, tokens.padding_mask
        placed = features + tokens.position
        attended, _ = self.attention(
            placed, placed, features, key_padding_mask=padding, need_weights=False
        )
        return self.feed_forward(self.norm(features + self.dropout(attended)))
