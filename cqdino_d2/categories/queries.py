"""Category queries: one learnable vector per category of the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers import autocast_dtype
from ..structures import ClassQueries, ClassRequest, Vocabulary


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

    def constant_queries(self) -> ClassQueries:
        """Of all V categories."""
        return ClassQueries(self.embeddings)

    def forward(self, request: ClassRequest | None = None) -> ClassQueries:
        """Of all V categories, (V, H); which of them are wanted is for the selection to know.

        Raises:
            ValueError: a request for words.
        """
        if request is not None and request.prompts is not None:
            raise ValueError("this model knows the categories of its vocabulary, not words")
        return self.constant_queries()


class TextTable(CategoryEmbeddings):
    """Text features of the categories' names, which stay as they are: no part of a training.

    They start at random; a training takes the real ones from `train.category_embeddings`.

    Args:
        vocabulary: its size is V.
        dim: width H.
    """

    def __init__(self, *, vocabulary: Vocabulary, dim: int) -> None:
        super().__init__(vocabulary=vocabulary, dim=dim)
        self.embeddings.requires_grad_(False)


class CategoryQueries(CategoryEmbeddings):
    """Learnable embeddings, projected and related to each other.

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
        self.projection = nn.Linear(width, dim)
        self.relation = relation

    def constant_queries(self) -> ClassQueries:
        """Of all V categories, in inference under autocast in its type.

        There they are computed exactly, since that costs nothing per image, but kept in no more
        memory than needed.
        """
        device = self.embeddings.device
        dtype = autocast_dtype(device)
        if dtype is None or torch.is_grad_enabled():
            return ClassQueries(self._related())
        with torch.autocast(device.type, enabled=False):
            return ClassQueries(self._related().to(dtype))

    def _related(self) -> Tensor:
        return self.relation(self.projection(self.embeddings).relu())
