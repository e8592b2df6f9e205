"""Attention from one sequence to another of a different width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, S, H * C_h) -> (B, H, S, C_h)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, S, C_h) -> (B, S, H * C_h)."""
    return x.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Multi-head attention with separate widths of queries and context."""

    def __init__(self, *, dim: int, context_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be a multiple of num_heads ({num_heads})")
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(context_dim, dim)
        self.value = nn.Linear(context_dim, dim)
        self.output = nn.Linear(dim, dim)

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S', context_dim) -> two of (B, heads, S', C_h)."""
        return (
            split_heads(self.key(context), self.num_heads),
            split_heads(self.value(context), self.num_heads),
        )

    def attend(self, projected: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(B, S, dim) queries after their projection, `keys_values` -> (B, S, dim)."""
        attended = self.look(split_heads(projected, self.num_heads), keys, values)
        return self.output(merge_heads(attended))

    def look(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(B, heads, S, C_h), twice (B, heads, S', C_h) -> (B, heads, S, C_h)."""
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, keys, values, dropout_p=dropout)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, S, dim), (B, S', context_dim) -> (B, S, dim)."""
        return self.attend(self.query(x), *self.keys_values(context))
