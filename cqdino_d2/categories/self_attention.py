"""Relations by attention, for datasets without a category tree."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CategorySelfAttention(nn.Module):
    """LayerNorm(e + MHA(e, e, e)): every category sees all others."""

    def __init__(self, *, dim: int, num_heads: int = 8) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor) -> Tensor:
        """(V, H) -> (V, H)."""
        sequence = queries[None]
        related, _ = self.attention(sequence, sequence, sequence, need_weights=False)
        return self.norm(queries + related[0])


class LengthOneSelfAttention(CategorySelfAttention):
    """The released form of the self-attention, which its COCO checkpoint was trained with.

    It attends over a sequence of length one, so that no category sees another: only the value and
    output projections act; the query and key projections are carried along without effect.
    """

    def forward(self, queries: Tensor) -> Tensor:
        """(V, H) -> (V, H)."""
        attention, start = self.attention, 2 * queries.shape[-1]
        value = F.linear(queries, attention.in_proj_weight[start:], attention.in_proj_bias[start:])
        return self.norm(queries + attention.out_proj(value))
