"""Category queries: one learnable vector per category of the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers import Linear, ParameterMemo, autocast_dtype
from ..structures import Vocabulary


class CategoryEmbeddings(nn.Module):
    """One learnable vector per category, as it is: the label embeddings of a DINO.

    Args:
        vocabulary: its size is V.
        dim: width H.
    """

    def __init__(self, *, vocabulary: Vocabulary, dim: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.randn(len(vocabulary), dim) * dim**-0.5)

    @torch.no_grad()
    def load_embeddings(self, embeddings: Tensor) -> None:
        """Starts from given text features (V, H).

        Raises:
            ValueError: another shape.
        """
        if embeddings.shape != self.embeddings.shape:
            raise ValueError(
                f"category embeddings must be {tuple(self.embeddings.shape)}, "
                f"got {tuple(embeddings.shape)}"
            )
        self.embeddings.copy_(embeddings)

    def forward(self) -> Tensor:
        """(V, H)."""
        return self.embeddings

    def compact(self, dtype: torch.dtype) -> FixedQueries:
        """The queries alone, for inference."""
        with torch.no_grad():
            return FixedQueries(self().to(dtype))


class CategoryQueries(CategoryEmbeddings):
    """Learnable embeddings, projected and related to each other.

    They do not depend on the image, so at inference they are computed once and kept until a weight
    changes.

    Args:
        vocabulary: its size is V.
        dim: width H of the queries.
        embedding_dim: width E of the embeddings, by default H (768 for CLIP ViT-L/14); another
            one is projected to H.
        relation: a module (V, H) -> (V, H) through which categories see each other, e.g.
            `TreeAggregation` or `CategorySelfAttention`.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        dim: int,
        relation: nn.Module,
        embedding_dim: int | None = None,
    ) -> None:
        width = embedding_dim or dim
        super().__init__(vocabulary=vocabulary, dim=width)
        self.projection = Linear(width, dim)
        self.relation = relation
        self._memo = ParameterMemo()

    def forward(self) -> Tensor:
        """(V, H) category queries, at inference under autocast in its type."""
        compute = self._compute if torch.is_grad_enabled() else self._compute_once
        return self._memo.get(list(self.parameters()), compute)

    def _compute(self) -> Tensor:
        return self.relation(self.projection(self.embeddings).relu())

    def _compute_once(self) -> Tensor:
        """Exact, since it costs nothing per image, but kept in no more memory than needed."""
        device = self.embeddings.device
        dtype = autocast_dtype(device)
        if dtype is None:
            return self._compute()
        with torch.autocast(device.type, enabled=False):
            return self._compute().to(dtype)

    def train(self, mode: bool = True) -> CategoryQueries:
        """Training forgets what was kept."""
        self._memo.clear()
        return super().train(mode)


class FixedQueries(nn.Module):
    """Category queries that have been computed, for inference alone.

    Args:
        queries: (V, H).
    """

    def __init__(self, queries: Tensor) -> None:
        super().__init__()
        self.register_buffer("queries", queries.detach())

    def forward(self) -> Tensor:
        """(V, H)."""
        return self.queries
