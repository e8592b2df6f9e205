"""The encoder: image tokens look at each other and, fused, at the categories."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..layers import FeedForward, MultiScaleDeformableAttention
from ..structures import ImageTokens, SelectedCategories
from .fusion import BiAttention


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention of the image tokens, then a feed-forward block."""

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


class ImageEncoder(nn.Module):
    """DINO's encoder: in every layer the image attends to itself.

    Args:
        first_level: finer levels pass by the encoder unchanged (0 in the paper: none does).
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        num_levels: int = 4,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        hidden_dim: int = 2048,
        dropout: float = 0.0,
        first_level: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= first_level < num_levels:
            raise ValueError(f"first_level must be in 0..{num_levels - 1}, got {first_level}")
        self.first_level = first_level
        self.image_layers = nn.ModuleList(
            DeformableEncoderLayer(
                dim=dim,
                num_levels=num_levels - first_level,
                hidden_dim=hidden_dim,
                num_heads=num_heads,
                num_points=num_points,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )

    def forward(
        self, tokens: ImageTokens, categories: SelectedCategories
    ) -> tuple[ImageTokens, SelectedCategories]:
        """Both with new features of the same shapes."""
        fine, coarse = tokens.split_at_level(self.first_level)
        references = encoder_references(coarse)
        for layer, attend in enumerate(self.image_layers):
            coarse, categories = self.exchange(layer, coarse, categories)
            coarse = coarse.with_features(attend(coarse, references))
        return tokens.with_features(torch.cat([fine, coarse.features], dim=1)), categories

    def exchange(
        self, layer: int, tokens: ImageTokens, categories: SelectedCategories
    ) -> tuple[ImageTokens, SelectedCategories]:
        """What image and categories learn of each other before a layer: nothing."""
        return tokens, categories


class FusionEncoder(ImageEncoder):
    """Per layer: image and categories exchange features, then the image attends to itself.

    Args:
        fusion_dim, fusion_heads, fusion_dropout, fusion_initial_scale: see `BiAttention`.
        image_layers: see `ImageEncoder`.
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        num_layers: int = 6,
        fusion_dim: int = 1024,
        fusion_heads: int = 4,
        fusion_dropout: float = 0.1,
        fusion_initial_scale: float = 1e-4,
        **image_layers: Any,
    ) -> None:
        super().__init__(dim=dim, num_layers=num_layers, **image_layers)
        self.fusion_layers = nn.ModuleList(
            BiAttention(
                dim=dim,
                attention_dim=fusion_dim,
                num_heads=fusion_heads,
                dropout=fusion_dropout,
                initial_scale=fusion_initial_scale,
            )
            for _ in range(num_layers)
        )

    def exchange(
        self, layer: int, tokens: ImageTokens, categories: SelectedCategories
    ) -> tuple[ImageTokens, SelectedCategories]:
        """Bi-directional attention."""
        image, text = self.fusion_layers[layer](
            tokens.features, categories.features, tokens.padding_mask, categories.valid
        )
        return tokens.with_features(image), categories.with_features(text)


def encoder_references(tokens: ImageTokens) -> Tensor:
    """(B, T, L, 2): each token's centre relative to the image, then to every level's padded map."""
    centres = tokens.grid_centres()
    own_ratio = tokens.valid_ratios[:, tokens.level_index()]
    relative_to_image = centres / own_ratio
    return torch.einsum("btx,blx->btlx", relative_to_image, tokens.valid_ratios)
