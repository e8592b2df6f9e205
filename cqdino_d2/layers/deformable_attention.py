"""The deformable-attention module around the op."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..ops import deformable_attention_from_offsets
from ..structures import ImageTokens


class MultiScaleDeformableAttention(nn.Module):
    """Every query looks at ``num_points`` places per head and level (arXiv 2010.04159)."""

    def __init__(
        self, *, dim: int, num_heads: int = 8, num_levels: int = 4, num_points: int = 4
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be a multiple of num_heads ({num_heads})")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(dim, samples * 2)
        self.attention_weights = nn.Linear(dim, samples)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self._reset_parameters()

    @torch.no_grad()
    def _reset_parameters(self) -> None:
        """Head h starts to look in direction 2 pi h / H, point p at distance p + 1."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = 2 * math.pi * torch.arange(self.num_heads) / self.num_heads
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1)
        offsets = directions[:, None, None] * distances[:, None]
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        self.sampling_offsets.bias.copy_(offsets.reshape(-1))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, query: Tensor, references: Tensor, tokens: ImageTokens) -> Tensor:
        """Gathers image features around the references.

        Args:
            query: (B, Q, C), position included.
            references: (B, Q, L, 2) centres or (B, Q, L, 4) boxes, relative to the level's padded
                map, see `cqdino_d2.ops.deformable_attention_from_offsets`.
            tokens: what is looked at.

        Returns:
            (B, Q, C).
        """
        batch, num_queries, _ = query.shape
        value = self.value_proj(tokens.features).masked_fill(tokens.padding_mask[..., None], 0)
        value = value.view(batch, -1, self.num_heads, value.shape[-1] // self.num_heads)
        grid = (batch, num_queries, self.num_heads, self.num_levels, self.num_points)
        attended = deformable_attention_from_offsets(
            value,
            tokens.spatial_shapes,
            tokens.level_start_index,
            references,
            self.sampling_offsets(query).view(*grid, 2),
            self.attention_weights(query).view(grid),
            tokens.level_sizes,
        )
        return self.output_proj(attended)
