"""Image-guided selection: which K of the V categories may be in this image."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from ..layers import CrossAttention, FeedForward
from ..structures import ImageTargets, SelectedCategories


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

    def forward(self, queries: Tensor, image: Tensor) -> Tensor:
        """(B, V, H), (B, S, image_dim) -> (B, V, H)."""
        queries = self.norm(queries + self.dropout(self.attention(queries, image)))
        return self.feed_forward(queries)


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

    Raises:
        ValueError: an unknown ranking, or no category to select.
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
    ) -> None:
        super().__init__()
        if ranking not in ("score", "random"):
            raise ValueError(f"ranking must be 'score' or 'random', got {ranking!r}")
        if num_selected < 1:
            raise ValueError(f"num_selected (K) must be at least 1, got {num_selected}")
        self.num_selected, self.force_targets, self.ranking = num_selected, force_targets, ranking
        self.image_projection = nn.Linear(map_channels, image_dim)
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
        self.score = nn.Linear(dim, 1)
        self.output_projection = nn.Linear(dim, output_dim)

    def forward(
        self,
        image_map: Tensor,
        queries: Tensor,
        targets: Sequence[ImageTargets] | None = None,
    ) -> SelectedCategories:
        """Selects among the category queries.

        Args:
            image_map: (B, C_map, h, w), the last backbone map; padding takes part.
            queries: (V, H).
            targets: needed for ``force_targets`` in training.
        """
        image = image_map.flatten(2).transpose(1, 2)
        image = torch.cat([image.mean(dim=1, keepdim=True), image], dim=1)
        image = self.image_projection(image)
        refined = queries.expand(len(image), -1, -1)
        for layer in self.layers:
            refined = layer(refined, image)
        logits = self.score(refined).squeeze(-1)
        vocab_ids = self._rank(logits.detach(), targets)
        chosen = refined.gather(1, vocab_ids[..., None].expand(-1, -1, refined.shape[-1]))
        features = self.output_projection(chosen)
        return self._pad(features, vocab_ids, logits)

    def _rank(self, scores: Tensor, targets: Sequence[ImageTargets] | None) -> Tensor:
        """(B, V) scores -> (B, min(K, V)) vocab_ids, best first."""
        if self.ranking == "random":
            scores = torch.rand_like(scores)
        if self.training and self.force_targets and targets is not None:
            scores = scores.clone()
            for row, target in zip(scores, targets, strict=True):
                row[target.vocab_ids.unique()] += scores.max() - scores.min() + 1
        return scores.topk(min(self.num_selected, scores.shape[1]), dim=1).indices

    def _pad(self, features: Tensor, vocab_ids: Tensor, logits: Tensor) -> SelectedCategories:
        """Fills up to K with masked slots."""
        missing = self.num_selected - vocab_ids.shape[1]
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
