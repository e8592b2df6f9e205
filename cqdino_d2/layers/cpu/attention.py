"""Attention from oneDNN's products, head by head."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attention import CrossAttention
from .chunks import in_chunks
from .dropout import dropout as drop
from .forms import form_of
from .linear import is_for_onednn, linear


@form_of(CrossAttention)
class CpuCrossAttention(CrossAttention):
    """`CrossAttention` whose products go through oneDNN where no gradients are recorded."""

    def look(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `CrossAttention.look`; the fused kernel where oneDNN is no faster."""
        if self.training and self.dropout and query.device.type == "cpu":
            query = query.contiguous() * query.shape[-1] ** -0.5
            images = zip(
                query, keys.contiguous().transpose(-1, -2), values.contiguous(), strict=True
            )
            return torch.stack(
                [drop((q @ k).softmax(dim=-1), self.dropout) @ v for q, k, v in images]
            )
        dropped = self.training and self.dropout
        if dropped or torch.is_grad_enabled() or not is_for_onednn(query[:1, :1], keys[0, 0]):
            return super().look(query, keys, values)
        return attention_by_heads(query, keys, values)


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
