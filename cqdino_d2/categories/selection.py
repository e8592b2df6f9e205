"""Image-guided selection: which K of the V categories may be in this image."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers import CrossAttention, FeedForward, Linear, ParameterMemo
from ..structures import CategoryOffer, ImageTargets, SelectedCategories


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
        projected = self.attention.query(queries) if projected is None else projected
        attended = self.attention.attend(projected, *image)
        return self.feed_forward(self.norm(queries + self.dropout(attended)))


class ImageGuidedSelection(nn.Module):
    """Scores every category against the image and keeps the K best (paper, section 3.2).

    Args:
        dim: width H of the category queries.
        map_channels: channels of the backbone map that the categories look at.
        image_dim: width of its tokens.
        output_dim: C, width of the selected categories for the detector.
        num_selected: K. With a smaller vocabulary the rest is masked.
        force_targets: in training the categories that are present always enter the K. The
            released code does not do this.
        ranking: "score", or "random" for the check that the selection matters.
        chunk_size: categories that are scored at a time; None takes all at once. It changes memory
            and time, not the result.
        recompute: in training keep only the results of a chunk and compute the rest again in the
            backward pass: less memory, a third more time.

    Raises:
        ValueError: an unknown ranking, no category to select, or empty chunks.
    """

    def __init__(
        self,
        *,
        dim: int,
        map_channels: int,
        image_dim: int,
        output_dim: int,
        num_selected: int,
        num_layers: int = 2,
        num_heads: int = 4,
        hidden_dim: int = 3072,
        dropout: float = 0.1,
        force_targets: bool = False,
        ranking: str = "score",
        chunk_size: int | None = 1024,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if ranking not in ("score", "random"):
            raise ValueError(f"ranking must be 'score' or 'random', got {ranking!r}")
        if num_selected < 1:
            raise ValueError(f"num_selected (K) must be at least 1, got {num_selected}")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1 or None, got {chunk_size}")
        self.chunk_size, self.recompute = chunk_size, recompute
        self.num_selected, self.force_targets, self.ranking = num_selected, force_targets, ranking
        self.image_projection = Linear(map_channels, image_dim)
        self.layers = nn.ModuleList(
            ImageGuidedLayer(
                dim=dim,
                image_dim=image_dim,
                num_heads=num_heads,
                hidden_dim=hidden_dim,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )
        self.score = Linear(dim, 1)
        self.output_projection = Linear(dim, output_dim)
        self._memo = ParameterMemo()

    def forward(
        self,
        image_map: Tensor,
        queries: Tensor,
        targets: Sequence[ImageTargets] | None = None,
        offer: CategoryOffer | None = None,
    ) -> SelectedCategories:
        """Selects among the category queries.

        Args:
            image_map: (B, C_map, h, w), the last backbone map; padding takes part.
            queries: (V, H).
            targets: needed for ``force_targets`` in training.
            offer: only these categories are scored and may be selected, and slots that stay
                empty are left out; not in training.

        Raises:
            ValueError: an offer in training.
        """
        if self.training and offer is not None:
            raise ValueError("an offer of categories is for inference, not for training")
        image = self._look_at(image_map)
        projected = self._memo.get(
            list(self.layers[0].attention.query.parameters()),
            lambda: self.layers[0].attention.query(queries),
            source=queries,
        )
        num_categories, offered = len(queries), offer.vocab_ids if offer else None
        if offered is not None:  # the queries of the rest have had their part in the relation
            queries, projected = queries[offered], projected[offered]
        keep_all = torch.is_grad_enabled()  # refined queries are needed again for the gradient
        chunks = [
            self._score(queries[rows], projected[rows], image, keep_all)
            for rows in self._chunks(len(queries))
        ]
        logits = torch.cat([logits for logits, _ in chunks], dim=1)
        num_selected = (offer and offer.num_selected) or self.num_selected
        vocab_ids = self._rank(logits.detach(), num_selected, targets)
        if keep_all:
            refined = torch.cat([refined for _, refined in chunks], dim=1)
            chosen = refined.gather(1, vocab_ids[..., None].expand(-1, -1, refined.shape[-1]))
        else:  # refining the K again is cheaper than keeping all V
            chosen = self._refine(queries[vocab_ids], projected[vocab_ids], image)
        missing = num_selected - vocab_ids.shape[1] if offer is None else 0
        selected = self._pad(self.output_projection(chosen), vocab_ids, logits, missing)
        return selected if offered is None else selected.among(offered, num_categories)

    def _look_at(self, image_map: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of each layer from the image tokens, their mean in front."""
        image = image_map.flatten(2).transpose(1, 2)
        image = torch.cat([image.mean(dim=1, keepdim=True), image], dim=1)
        image = self.image_projection(image)
        return [layer.attention.keys_values(image) for layer in self.layers]

    def _chunks(self, num_categories: int) -> list[slice]:
        size = self.chunk_size or num_categories
        return [slice(start, start + size) for start in range(0, num_categories, size)]

    def _score(
        self,
        queries: Tensor,
        projected: Tensor,
        image: list[tuple[Tensor, Tensor]],
        keep_refined: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """(N, H) queries of a chunk -> (B, N) logits and, if asked for, (B, N, H) refined ones."""
        if self.recompute and keep_refined:
            refined = checkpoint(self._refine, queries, projected, image, use_reentrant=False)
        else:
            refined = self._refine(queries, projected, image)
        return self.score(refined).squeeze(-1), refined if keep_refined else None

    def _refine(
        self, queries: Tensor, projected: Tensor, image: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """(N, H) or (B, N, H) queries, their projection for the first layer -> (B, N, H)."""
        batch = len(image[0][0])
        refined, known = queries.expand(batch, -1, -1), projected.expand(batch, -1, -1)
        for layer, keys_values in zip(self.layers, image, strict=True):
            refined, known = layer(refined, keys_values, known), None
        return refined

    def _rank(
        self, scores: Tensor, num_selected: int, targets: Sequence[ImageTargets] | None
    ) -> Tensor:
        """(B, V) scores -> (B, min(K, V)) vocab_ids, best first."""
        if self.ranking == "random":
            scores = torch.rand_like(scores)
        if self.training and self.force_targets and targets is not None:
            scores = scores.clone()
            for row, target in zip(scores, targets, strict=True):
                row[target.vocab_ids.unique()] += scores.max() - scores.min() + 1
        return scores.topk(min(num_selected, scores.shape[1]), dim=1).indices

    def _pad(
        self, features: Tensor, vocab_ids: Tensor, logits: Tensor, missing: int
    ) -> SelectedCategories:
        """Fills up to K with masked slots."""
        if missing:
            message = f"K = {self.num_selected}, but there are only {vocab_ids.shape[1]} categories"
            log_first_n(logging.WARNING, f"{message}: {missing} slots stay empty", key="message")
        valid = torch.ones_like(vocab_ids, dtype=torch.bool)
        pad = nn.functional.pad
        return SelectedCategories(
            features=pad(features, (0, 0, 0, missing)),
            vocab_ids=pad(vocab_ids, (0, missing)),
            valid=pad(valid, (0, missing)),
            logits=logits,
        )
