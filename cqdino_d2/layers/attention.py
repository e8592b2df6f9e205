"""Attention from one sequence to another of a different width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cpu.chunks import in_chunks
from .cpu.dropout import dropout as drop
from .cpu.linear import Linear, is_for_onednn, linear


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, S, H * C_h) -> (B, H, S, C_h)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, S, C_h) -> (B, S, H * C_h)."""
    return x.transpose(1, 2).flatten(2)


def attention(query: Tensor, keys: Tensor, values: Tensor, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention through fused kernels.

    Without gradients, where oneDNN's products are faster than those of the fused kernel, it is made
    of these, head by head and some queries at a time. Torch has no fused kernel with dropout for a
    CPU.

    Args:
        query: (B, heads, S, C_h).
        keys, values: (B, heads, S', C_h).
        dropout: share of the weights that are dropped.

    Returns:
        (B, heads, S, C_h).
    """
    if dropout and query.device.type == "cpu":
        query = query.contiguous() * query.shape[-1] ** -0.5  # products are faster then
        images = zip(query, keys.contiguous().transpose(-1, -2), values.contiguous(), strict=True)
        return torch.stack([drop((q @ k).softmax(dim=-1), dropout) @ v for q, k, v in images])
    if dropout or torch.is_grad_enabled() or not is_for_onednn(query[:1, :1], keys[0, 0]):
        return F.scaled_dot_product_attention(query, keys, values, dropout_p=dropout)
    keys = keys * query.shape[-1] ** -0.5
    values = values.transpose(-1, -2).contiguous()
    out = torch.empty_like(query)
    for image in range(len(query)):
        for head in range(query.shape[1]):
            k, v = keys[image, head], values[image, head]
            out[image, head] = in_chunks(
                lambda rows, k=k, v=v: linear(linear(rows, k).softmax(dim=-1), v),
                query[image, head],
                len(k),
            )
    return out


class CrossAttention(nn.Module):
    """Multi-head attention with separate widths of queries and context."""

    def __init__(self, *, dim: int, context_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be a multiple of num_heads ({num_heads})")
        self.num_heads, self.dropout = num_heads, dropout
        self.query = Linear(dim, dim)
        self.key = Linear(context_dim, dim)
        self.value = Linear(context_dim, dim)
        self.output = Linear(dim, dim)

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S', context_dim) -> two of (B, heads, S', C_h)."""
        return (
            split_heads(self.key(context), self.num_heads),
            split_heads(self.value(context), self.num_heads),
        )

    def attend(self, projected: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(B, S, dim) queries after their projection, `keys_values` -> (B, S, dim)."""
        attended = attention(
            split_heads(projected, self.num_heads),
            keys,
            values,
            self.dropout if self.training else 0.0,
        )
        return self.output(merge_heads(attended))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, S, dim), (B, S', context_dim) -> (B, S, dim)."""
        return self.attend(self.query(x), *self.keys_values(context))
