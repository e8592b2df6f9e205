"""Image-guided selection: which K of the V categories may be in this image."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from ..layers import Linear, ParameterMemo, check_recomputation, recomputing
from ..structures import CategoryOffer, ImageTargets, SelectedCategories
from .cascade import Cascade
from .image_guided_layer import Candidates, Image, ImageGuidedLayer


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
        recompute: what training computes again in the backward pass instead of keeping it:
            "selective" all but the results of linear layers, "full" all but those of a chunk (a
            third more time), None nothing.
        cascade: M. At inference only the M categories that an auxiliary logit ranks highest after
            the first attention go through the rest; the K are chosen among these. The auxiliary
            logit is trained along, with all V. A fifth of the cost where M is a few percent of V.
            None takes all V through all.

    Attributes:
        keeps_projection: whether inference keeps the first layer's projection of the queries, in
            as much memory as these.

    Raises:
        ValueError: an unknown ranking or way to recompute, no category to select, empty chunks, or
            a cascade that keeps fewer than K.
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
        recompute: str | None = None,
        cascade: int | None = None,
    ) -> None:
        super().__init__()
        if ranking not in ("score", "random"):
            raise ValueError(f"ranking must be 'score' or 'random', got {ranking!r}")
        check_recomputation(recompute)
        if num_selected < 1:
            raise ValueError(f"num_selected (K) must be at least 1, got {num_selected}")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1 or None, got {chunk_size}")
        if cascade is not None and cascade < num_selected:
            raise ValueError(
                f"a cascade must keep at least num_selected = {num_selected} categories, "
                f"got cascade = {cascade}"
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
        self.keeps_projection = True
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
        image = self._read(image_map)
        candidates, num_categories = self._candidates(queries), len(queries)
        offered = offer.vocab_ids if offer else None
        if offered is not None:  # the queries of the rest have had their part in the relation
            candidates = candidates[offered]
        num_selected = (offer and offer.num_selected) or self.num_selected
        if self.training or self.cascade is None:
            forced = self._forced(targets, num_categories)
            selected = self._select(candidates, image, forced, num_selected)
        else:
            selected = self._select_in_two_steps(candidates, image, num_selected)
        if offer is None:
            selected = self._pad(selected)
        return selected if offered is None else selected.among(offered, num_categories)

    def _candidates(self, queries: Tensor) -> Candidates:
        query = self.layers[0].attention.query
        if not self.keeps_projection:
            return Candidates(queries)
        projected = self._memo.get(list(query.parameters()), lambda: query(queries), source=queries)
        return Candidates(queries, projected)

    def _select(
        self, candidates: Candidates, image: Image, forced: Tensor | None, num_selected: int
    ) -> SelectedCategories:
        """All categories through all layers."""
        logits, auxiliary, refined = self._score(candidates, image)
        vocab_ids = self._rank(logits, num_selected, forced)
        if refined is None:  # refining the K again is cheaper than keeping all V
            chosen, _ = self._refine(candidates[vocab_ids], image)
        else:
            chosen = _take(refined, vocab_ids)
        return self._selected(chosen, vocab_ids, logits, auxiliary)

    def _select_in_two_steps(
        self, candidates: Candidates, image: Image, num_selected: int
    ) -> SelectedCategories:
        """All V look at the image once, M of them go through the layers."""
        cascade = self.cascade
        given = (self._given(chunk, image) for chunk in self._chunks(candidates))
        looks = (self.layers[0].look(*inputs) for inputs in given)
        auxiliary = torch.cat([cascade.score(look) for look in looks], dim=1)
        kept_ids = self._rank(auxiliary, max(cascade.keep, num_selected))
        refined, _ = self._refine(candidates[kept_ids], image)
        kept_logits = self.score(refined).squeeze(-1)
        slots = self._rank(kept_logits, num_selected)
        logits = cascade.complete(auxiliary, kept_ids, kept_logits)
        chosen = _take(refined, slots)
        return self._selected(chosen, kept_ids.gather(1, slots), logits, auxiliary)

    def _selected(
        self, chosen: Tensor, vocab_ids: Tensor, logits: Tensor, auxiliary: Tensor | None
    ) -> SelectedCategories:
        valid = torch.ones_like(vocab_ids, dtype=torch.bool)
        features = self.output_projection(chosen)
        return SelectedCategories(features, vocab_ids, valid, logits, auxiliary)

    def compact(self) -> ImageGuidedSelection:
        """The same with the same weights, which keeps nothing from image to image."""
        other = copy.copy(self)
        other.keeps_projection, other._memo = False, ParameterMemo()
        return other

    def train(self, mode: bool = True) -> ImageGuidedSelection:
        """Training forgets what was kept."""
        self._memo.clear()
        return super().train(mode)

    def _read(self, image_map: Tensor) -> Image:
        """Keys and values of each layer from the image tokens, their mean in front."""
        image = image_map.flatten(2).transpose(1, 2)
        image = torch.cat([image.mean(dim=1, keepdim=True), image], dim=1)
        image = self.image_projection(image)
        return [layer.attention.keys_values(image) for layer in self.layers]

    def _chunks(self, candidates: Candidates) -> list[Candidates]:
        return candidates.split(self.chunk_size or len(candidates.queries))

    def _score(
        self, candidates: Candidates, image: Image
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """All V, chunk by chunk -> (B, V) logits, auxiliary logits and (B, V, H) refined queries.

        The second are None without a cascade, the last where no gradient needs them.
        """
        keep = torch.is_grad_enabled()
        refine = recomputing(self._refine, self.recompute)
        logits, auxiliary, kept = [], [], []
        for chunk in self._chunks(candidates):
            refined, first = refine(chunk, image)
            logits.append(self.score(refined).squeeze(-1))
            auxiliary += [] if first is None else [first]
            kept += [refined] if keep else []
        return (
            torch.cat(logits, dim=1),
            torch.cat(auxiliary, dim=1) if auxiliary else None,
            torch.cat(kept, dim=1) if kept else None,
        )

    def _refine(self, candidates: Candidates, image: Image) -> tuple[Tensor, Tensor | None]:
        """(N, H) or (B, N, H) queries -> (B, N, H) and, with a cascade, (B, N) auxiliary logits."""
        first, given = self.layers[0], self._given(candidates, image)
        if self.cascade is None:
            refined, auxiliary = first(*given), None
        else:
            look = first.look(*given)
            refined, auxiliary = first.feed_forward(look), self.cascade.score(look)
        for layer, keys_values in zip(self.layers[1:], image[1:], strict=True):
            refined = layer(refined, keys_values)
        return refined, auxiliary

    def _given(
        self, candidates: Candidates, image: Image
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor | None]:
        """The inputs of the first layer."""
        batch, projected = len(image[0][0]), candidates.projected
        queries = candidates.queries.to(self.score.weight.dtype).expand(batch, -1, -1)
        projected = projected if projected is None else projected.expand(batch, -1, -1)
        return queries, image[0], projected

    def _forced(self, targets: Sequence[ImageTargets] | None, num_categories: int) -> Tensor | None:
        """(B, V) bool, the categories that must be selected; None where there are no such."""
        if not (self.training and self.force_targets) or targets is None:
            return None
        present = [target.vocab_ids.new_zeros(num_categories).bool() for target in targets]
        for row, target in zip(present, targets, strict=True):
            row[target.vocab_ids] = True
        return torch.stack(present)

    def _rank(self, scores: Tensor, count: int, forced: Tensor | None = None) -> Tensor:
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
