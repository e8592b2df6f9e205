"""Image-guided selection: which K of the V categories may be in this image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers import CrossAttention, FeedForward, Linear, ParameterMemo
from ..structures import CategoryOffer, ImageTargets, SelectedCategories
from .cascade import Cascade


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
        cascade: M. Only the M categories that an auxiliary logit ranks highest after the first
            layer go through the others; the K are chosen among these. It is another model, with
            about half the cost where M is a few percent of V. None takes all through all layers.

    Raises:
        ValueError: an unknown ranking, no category to select, empty chunks, or a cascade that
            keeps fewer than K or has no layer left for them.
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
        cascade: int | None = None,
    ) -> None:
        super().__init__()
        if ranking not in ("score", "random"):
            raise ValueError(f"ranking must be 'score' or 'random', got {ranking!r}")
        if num_selected < 1:
            raise ValueError(f"num_selected (K) must be at least 1, got {num_selected}")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1 or None, got {chunk_size}")
        if cascade is not None and (cascade < num_selected or num_layers < 2):
            raise ValueError(
                f"a cascade must keep at least num_selected = {num_selected} categories and have 2 "
                f"layers, got cascade = {cascade} and num_layers = {num_layers}"
            )
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
        self.cascade = None if cascade is None else Cascade(dim=dim, keep=cascade)
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
        forced = self._forced(targets, len(queries))
        num_selected = (offer and offer.num_selected) or self.num_selected
        select = self._select if self.cascade is None else self._select_in_two_steps
        selected = select(queries, projected, image, forced, num_selected)
        if offer is None:
            selected = self._pad(selected)
        return selected if offered is None else selected.among(offered, num_categories)

    def _select(
        self,
        queries: Tensor,
        projected: Tensor,
        image: list[tuple[Tensor, Tensor]],
        forced: Tensor | None,
        num_selected: int,
    ) -> SelectedCategories:
        """All categories through all layers."""
        logits, refined = self._score(self.score, self._refine, queries, projected, image)
        vocab_ids = self._rank(logits, num_selected, forced)
        if refined is None:  # refining the K again is cheaper than keeping all V
            chosen = self._refine(queries[vocab_ids], projected[vocab_ids], image)
        else:
            chosen = _take(refined, vocab_ids)
        valid = torch.ones_like(vocab_ids, dtype=torch.bool)
        return SelectedCategories(self.output_projection(chosen), vocab_ids, valid, logits)

    def _select_in_two_steps(
        self,
        queries: Tensor,
        projected: Tensor,
        image: list[tuple[Tensor, Tensor]],
        forced: Tensor | None,
        num_selected: int,
    ) -> SelectedCategories:
        """The first layer for all V, the others for M of them."""
        cascade = self.cascade
        auxiliary, begun = self._score(cascade.score, self._begin, queries, projected, image)
        kept_ids = self._rank(auxiliary, max(cascade.keep, num_selected), forced)
        if begun is None:
            refined = self._refine(queries[kept_ids], projected[kept_ids], image)
        elif self.recompute:
            refined = checkpoint(self._finish, _take(begun, kept_ids), image, use_reentrant=False)
        else:
            refined = self._finish(_take(begun, kept_ids), image)
        kept_logits = self.score(refined).squeeze(-1)
        forced = forced if forced is None else forced.gather(1, kept_ids)
        slots = self._rank(kept_logits, num_selected, forced)
        return SelectedCategories(
            features=self.output_projection(_take(refined, slots)),
            vocab_ids=kept_ids.gather(1, slots),
            valid=torch.ones_like(slots, dtype=torch.bool),
            logits=cascade.complete(auxiliary, kept_ids, kept_logits),
            auxiliary_logits=auxiliary,
        )

    def train(self, mode: bool = True) -> ImageGuidedSelection:
        """Training forgets what was kept."""
        self._memo.clear()
        return super().train(mode)

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
        score: nn.Module,
        refine: Callable[..., Tensor],
        queries: Tensor,
        projected: Tensor,
        image: list[tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor | None]:
        """(V, H) queries, chunk by chunk -> (B, V) logits and the refined queries (B, V, H).

        Where no gradient needs them, the latter are not kept (None).
        """
        keep = torch.is_grad_enabled()
        logits, kept = [], []
        for rows in self._chunks(len(queries)):
            chunk = (queries[rows], projected[rows], image)
            if self.recompute and keep:
                refined = checkpoint(refine, *chunk, use_reentrant=False)
            else:
                refined = refine(*chunk)
            logits.append(score(refined).squeeze(-1))
            kept += [refined] if keep else []
        return torch.cat(logits, dim=1), torch.cat(kept, dim=1) if keep else None

    def _refine(
        self, queries: Tensor, projected: Tensor, image: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """(N, H) or (B, N, H) queries, their projection for the first layer -> (B, N, H)."""
        return self._finish(self._begin(queries, projected, image), image)

    def _begin(
        self, queries: Tensor, projected: Tensor, image: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """`_refine` up to the first layer."""
        batch = len(image[0][0])
        queries, projected = queries.expand(batch, -1, -1), projected.expand(batch, -1, -1)
        return self.layers[0](queries, image[0], projected)

    def _finish(self, refined: Tensor, image: list[tuple[Tensor, Tensor]]) -> Tensor:
        """`_refine` from the second layer on."""
        for layer, keys_values in zip(self.layers[1:], image[1:], strict=True):
            refined = layer(refined, keys_values)
        return refined

    def _forced(self, targets: Sequence[ImageTargets] | None, num_categories: int) -> Tensor | None:
        """(B, V) bool, the categories that must be selected; None where there are no such."""
        if not (self.training and self.force_targets) or targets is None:
            return None
        present = [target.vocab_ids.new_zeros(num_categories).bool() for target in targets]
        for row, target in zip(present, targets, strict=True):
            row[target.vocab_ids] = True
        return torch.stack(present)

    def _rank(self, scores: Tensor, count: int, forced: Tensor | None) -> Tensor:
        """(B, N) scores -> (B, min(count, N)) places, best first, the forced ones in front."""
        scores = scores.detach()
        if self.ranking == "random":
            scores = torch.rand_like(scores)
        if forced is not None:
            scores = torch.where(forced, scores + (scores.max() - scores.min() + 1), scores)
        return scores.topk(min(count, scores.shape[1]), dim=1).indices

    def _pad(self, selected: SelectedCategories) -> SelectedCategories:
        """Fills up to K with masked slots."""
        found = selected.vocab_ids.shape[1]
        missing = self.num_selected - found
        if missing:
            message = f"K = {self.num_selected}, but there are only {found} categories"
            log_first_n(logging.WARNING, f"{message}: {missing} slots stay empty", key="message")
        pad = nn.functional.pad
        return replace(
            selected,
            features=pad(selected.features, (0, 0, 0, missing)),
            vocab_ids=pad(selected.vocab_ids, (0, missing)),
            valid=pad(selected.valid, (0, missing)),
        )


def _take(x: Tensor, places: Tensor) -> Tensor:
    """(B, N, H), (B, K) -> (B, K, H)."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
