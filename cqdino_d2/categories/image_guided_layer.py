"""One layer of the selection, and what goes in: category queries and an image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..layers import CrossAttention, FeedForward

ImageKeysValues = list[tuple[Tensor, Tensor]]  # of each layer, from its `keys_values`


@dataclass(frozen=True)
class Candidates:
    """Category queries before they see an image: (N, H), or (B, N, H) if images have their own.

    Attributes:
        projected: what the first layer's attention makes of them, where it is known already.
    """

    queries: Tensor
    projected: Tensor | None = None

    def __getitem__(self, ids: Tensor) -> Candidates:
        """Some of (N, H); ids (B, N') give every image its own."""
        projected = self.projected if self.projected is None else self.projected[ids]
        return Candidates(self.queries[ids], projected)

    def split(self, size: int) -> list[Candidates]:
        """Chunks of (N, H); unlike slices they have their gradients joined only once."""
        queries = self.queries.split(size)
        if self.projected is None:
            return list(map(Candidates, queries))
        return list(map(Candidates, queries, self.projected.split(size)))


class ImageGuidedLayer(nn.Module):
    """Category queries look at the image: cross-attention, then a feed-forward block."""

    def __init__(
        self, *, dim: int, image_dim: int, num_heads: int, hidden_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention = CrossAttention(
            dim=dim, context_dim=image_dim, num_heads=num_heads, dropout=dropout
        )
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.feed_forward = FeedForward(
            dim=dim, hidden_dim=hidden_dim, activation=nn.GELU, dropout=dropout, norm_eps=1e-12
        )

    def forward(
        self, queries: Tensor, image: tuple[Tensor, Tensor], projected: Tensor | None = None
    ) -> Tensor:
        """Refines any number N of category queries; they do not see each other.

        Args:
            queries: (B, N, H).
            image: keys and values, from ``attention.keys_values``.
            projected: ``attention.query(queries)``, where it is known already.
        """
        return self.feed_forward(self.cross_attend(queries, image, projected))

    def cross_attend(
        self, queries: Tensor, image: tuple[Tensor, Tensor], projected: Tensor | None = None
    ) -> Tensor:
        """`forward` without the feed-forward block, about a third of the operations."""
        projected = self.attention.query(queries) if projected is None else projected
        attended = self.attention.attend(projected, *image)
        return self.norm(queries + self.dropout(attended))
