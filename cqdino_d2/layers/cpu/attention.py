"""Attention from oneDNN's products, head by head."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attention import CrossAttention
from .chunks import in_chunks
from .dropout import dropout as drop
from .forms import form_of
from .onednn import LEAST_WORK, is_for_onednn, linear


@form_of(CrossAttention)
class CpuCrossAttention(CrossAttention):
    """`CrossAttention` by head in inference, and by image where its weights are dropped."""

    def look(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `CrossAttention.look`; torch's kernel where it is as fast."""
        if self.training and self.dropout:
            return self._with_dropout(query, keys, values)
        return self._without_dropout(query, keys, values)

    def _without_dropout(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not is_for_onednn(query[:1, :1], keys[0, 0]):
            return super().look(query, keys, values)
        return attention_by_heads(query, keys, values)

    def _with_dropout(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or query.device.type != "cpu":
            return super().look(query, keys, values)
        if query[0].numel() * keys.shape[2] < LEAST_WORK:
            return super().look(query, keys, values)
        return attention_with_dropout(query, keys, values, self.dropout)


def attention_with_dropout(query: Tensor, keys: Tensor, values: Tensor, dropout: float) -> Tensor:
    """Scaled dot-product attention one image at a time; torch has no fused kernel for it on CPUs.

    Args:
        query: (B, heads, S, C_h).
        keys, values: (B, heads, S', C_h).
        dropout: share of the weights that are dropped.

    Returns:
        (B, heads, S, C_h).
    """
    query = query.contiguous() * query.shape[-1] ** -0.5  # products are faster then
    images = zip(query, keys.contiguous().transpose(-1, -2), values.contiguous(), strict=True)
    return torch.stack([drop((q @ k).softmax(dim=-1), dropout) @ v for q, k, v in images])


def attention_by_heads(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled dot-product attention of (B, heads, S, C_h) queries, some of them at a time.

    Args:
        query: (B, heads, S, C_h).
        keys, values: (B, heads, S', C_h).

    Returns:
        (B, heads, S, C_h).
    """
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
