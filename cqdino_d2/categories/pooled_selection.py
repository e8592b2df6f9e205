"""Selection by the most alike place of an image; the K chosen alone look at it closely."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..structures import ClassQueries, ClassSlots
from .image_guided_layer import Candidates, ImageKeysValues
from .selection import ImageGuidedSelection

_SHARPNESS = 4.0  # of the maximum over the places; the larger, the fewer places learn


class PooledSimilarity(nn.Module):
    """Logit of a category from its similarity to the place of the image that is most like it.

    A smooth maximum over the places t: scale / s * (log mean_t exp(s <q_v, x_t> / sqrt(H))) + bias
    with the sharpness s. So a category learns from the place that shows it, while cross-attention
    first has to learn where to look.

    Args:
        dim: width H of the category queries.
        map_channels: channels of the image's map.
        hidden_dim: width between map and similarity.
    """

    def __init__(self, *, dim: int, map_channels: int, hidden_dim: int) -> None:
        super().__init__()
        self.places = nn.Sequential(
            nn.LayerNorm(map_channels),
            nn.Linear(map_channels, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, dim),
        )
        self.query = nn.Linear(dim, dim)
        self.log_scale = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(()))  # from -3 on it takes twice the steps

    def read(self, image_map: Tensor) -> Tensor:
        """(B, C_map, h, w) -> (B, h w, H) places; padding takes part."""
        return self.places(image_map.flatten(2).transpose(1, 2))

    def forward(self, queries: Tensor, places: Tensor) -> Tensor:
        """(N, H) queries that went through ``query``, (B, T, H) places -> (B, N) logits."""
        similarity = places @ queries.T * (_SHARPNESS * queries.shape[-1] ** -0.5)
        pooled = torch.logsumexp(similarity, dim=1) - math.log(places.shape[1])
        return pooled * (self.log_scale.exp() / _SHARPNESS) + self.bias


class PooledSelection(ImageGuidedSelection):
    """Keeps the K categories that `PooledSimilarity` ranks highest and refines these alone.

    Not the paper's: there all V categories go through the image-guided layers and are scored by
    what comes out. Here a category costs one product per place, and neither time nor memory of the
    layers grows with V. docs/claim.md compares what the two learn.

    Args:
        dim: width H of the category queries.
        map_channels: channels of the backbone map.
        hidden_dim: width of the feed-forward blocks.
        given: the other arguments of `ImageGuidedSelection`; nothing is left for a ``cascade`` or
            for ``recompute`` to save.

    Raises:
        ValueError: a cascade, a way to recompute, or what `ImageGuidedSelection` refuses.
    """

    def __init__(self, *, dim: int, map_channels: int, hidden_dim: int, **given: object) -> None:
        for name in ("cascade", "recompute"):
            if given.get(name) is not None:
                raise ValueError(f"{name} must be None for a PooledSelection, got {given[name]!r}")
        super().__init__(dim=dim, map_channels=map_channels, hidden_dim=hidden_dim, **given)
        self.score = None
        self.similarity = PooledSimilarity(dim=dim, map_channels=map_channels, hidden_dim=2 * dim)

    def prepare(self, queries: ClassQueries) -> ClassQueries:
        """Projects the queries as the similarity does, which needs no image."""
        return replace(queries, projected=self.similarity.query(queries.features))

    def preparing_parameters(self) -> list[Tensor]:
        """Those of the similarity's query projection."""
        return list(self.similarity.query.parameters())

    def train_scores_alone(self) -> None:
        """Freezes all that belongs to the detector: what refines the selected queries."""
        super().train_scores_alone()
        self.image_projection.requires_grad_(False)
        self.layers.requires_grad_(False)

    def _read(self, image_map: Tensor) -> tuple[Tensor, ImageKeysValues]:
        return self.similarity.read(image_map), super()._read(image_map)

    def _select(
        self,
        candidates: Candidates,
        image: tuple[Tensor, ImageKeysValues],
        forced: Tensor | None,
        num_selected: int,
    ) -> ClassSlots:
        places, keys_values = image
        logits = torch.cat([self._alike(chunk, places) for chunk in self._chunks(candidates)], 1)
        vocab_ids = self._rank(logits, num_selected, forced)
        chosen, _ = self._refine(Candidates(candidates.queries[vocab_ids]), keys_values)
        return self._selected(chosen, vocab_ids, logits, None)

    def _alike(self, chunk: Candidates, places: Tensor) -> Tensor:
        projected = chunk.projected
        if projected is None:
            projected = self.similarity.query(chunk.queries.to(places.dtype))
        return self.similarity(projected, places)
