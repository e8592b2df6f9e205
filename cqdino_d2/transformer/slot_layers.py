"""Layers in which class slots look at each other."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import FeedForward
from ..structures import ClassSlots


class SlotSelfAttentionLayer(nn.Module):
    """Self-attention among the slots that see each other, then a feed-forward block.

    The tokens of a prompt see those of their own phrase (Grounding DINO's text enhancer).

    Args:
        dim: C, width of the slots.
        num_heads: of the attention.
        hidden_dim: of the feed-forward block.
        dropout: of both.
    """

    def __init__(
        self, *, dim: int, num_heads: int = 4, hidden_dim: int = 1024, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim=dim, hidden_dim=hidden_dim, dropout=dropout)

    def forward(self, slots: ClassSlots) -> ClassSlots:
        """The slots with new features."""
        features = slots.features
        placed = features if slots.position is None else features + slots.position
        attended, _ = self.attention(
            placed, placed, features, attn_mask=self._mask(slots), need_weights=False
        )
        updated = self.norm(features + self.dropout(attended))
        return slots.with_features(self.feed_forward(updated))

    def _mask(self, slots: ClassSlots) -> Tensor:
        """(B * heads, S, S) bool, True where a slot must not look; an image's heads lie together.

        A slot that would see nothing sees itself.
        """
        hidden = ~slots.valid[:, None, :]
        hidden = hidden.expand(-1, slots.num_slots, -1) if slots.visible is None else ~slots.visible
        blind = hidden.all(dim=-1, keepdim=True)
        own = hidden.new_ones(slots.num_slots).diag()
        return (hidden & ~(blind & own)).repeat_interleave(self.attention.num_heads, dim=0)
