"""ImageKeysValues-guided selection: which K of the V categories may be in this image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from ..layers import check_recomputation, recomputing
from ..structures import (
    NO_CATEGORY,
    CategoryScores,
    ClassQueries,
    ClassRequest,
    ClassSlots,
    ImageTargets,
)
from .cascade import Cascade
from .image_guided_layer import Candidates, ImageGuidedLayer, ImageKeysValues


class ImageGuidedSelection(nn.Module):
    """Scores every category against the image and keeps the K best (paper, section 3.2).

    Args:
        dim: width H of the category queries.
        map_channels: channels of the backbone map that the categories look at.
        image_dim: width of its tokens.
        output_dim: C, width of the selected categories for the detector.
        num_selected: K. With a smaller vocabulary the rest is masked.
        force_targets: in training the categories that are present always enter the K; "always":
            wherever targets are given, which shows what a perfect selection would give. The
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
        force_targets: bool | str = False,
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
        self.cascade = None if cascade is None else Cascade(dim=dim, keep=cascade)

    @property
    def is_deterministic(self) -> bool:
        """Whether the same image always gets the same slots."""
        return self.ranking == "score"

    def forward(
        self,
        image_map: Tensor,
        queries: ClassQueries,
        targets: Sequence[ImageTargets] | None = None,
        request: ClassRequest | None = None,
    ) -> ClassSlots:
        """Selects among the category queries.

        Args:
            image_map: (B, C_map, h, w), the last backbone map; padding takes part.
            queries: of the V categories, whether they went through `prepare` or not.
            targets: needed for ``force_targets``.
            request: only its categories are scored and may be selected, and slots that stay
                empty are left out; not in training.

        Raises:
            ValueError: a request in training.
        """
        if self.training and request is not None:
            raise ValueError("a request for categories is for inference, not for training")
        image = self._read(image_map)
        candidates = Candidates(queries.features, queries.projected)
        num_categories = len(queries.features)
        requested = request.vocab_ids if request else None
        if requested is not None:  # the queries of the rest have had their part in the relation
            candidates = candidates[requested]
        num_selected = (request and request.num_selected) or self.num_selected
        if self.training or self.cascade is None:
            forced = self._forced(targets, num_categories)
            slots = self._select(candidates, image, forced, num_selected)
        else:
            slots = self._select_in_two_steps(candidates, image, num_selected)
        if request is None:
            slots = self._pad(slots)
        if requested is None:
            return slots
        scores = slots.scores.among(requested, num_categories)
        return replace(slots, vocab_ids=requested[slots.vocab_ids], scores=scores)

    def prepare(self, queries: ClassQueries) -> ClassQueries:
        """Projects the queries as the first layer does, which needs no image."""
        query = self.layers[0].attention.query
        return replace(queries, projected=query(queries.features))

    def preparing_parameters(self) -> list[Tensor]:
        """Those of the first layer's query projection."""
        return list(self.layers[0].attention.query.parameters())

    def train_scores_alone(self) -> None:
        """Freezes the projection of the selected queries, which belongs to the detector."""
        self.output_projection.requires_grad_(False)

    def _select(
        self,
        candidates: Candidates,
        image: ImageKeysValues,
        forced: Tensor | None,
        num_selected: int,
    ) -> ClassSlots:
        """All categories through all layers."""
        logits, auxiliary, refined = self._score(candidates, image)
        vocab_ids = self._rank(logits, num_selected, forced)
        if refined is None:  # refining the K again is cheaper than keeping all V
            chosen, _ = self._refine(candidates[vocab_ids], image)
        else:
            chosen = _take(refined, vocab_ids)
        return self._selected(chosen, vocab_ids, logits, auxiliary)

    def _select_in_two_steps(
        self, candidates: Candidates, image: ImageKeysValues, num_selected: int
    ) -> ClassSlots:
        """All V look at the image once, M of them go through the layers."""
        cascade = self.cascade
        given = (self._given(chunk, image) for chunk in self._chunks(candidates))
        attended = (self.layers[0].cross_attend(*inputs) for inputs in given)
        auxiliary = torch.cat([cascade.score(one) for one in attended], dim=1)
        kept_ids = self._rank(auxiliary, max(cascade.keep, num_selected))
        refined, _ = self._refine(candidates[kept_ids], image)
        kept_logits = self.score(refined).squeeze(-1)
        slots = self._rank(kept_logits, num_selected)
        logits = cascade.complete(auxiliary, kept_ids, kept_logits)
        chosen = _take(refined, slots)
        return self._selected(chosen, kept_ids.gather(1, slots), logits, auxiliary)

    def _selected(
        self, chosen: Tensor, vocab_ids: Tensor, logits: Tensor, auxiliary: Tensor | None
    ) -> ClassSlots:
        return ClassSlots(
            features=self.output_projection(chosen),
            vocab_ids=vocab_ids,
            valid=torch.ones_like(vocab_ids, dtype=torch.bool),
            scores=CategoryScores(logits, auxiliary),
        )

    def _read(self, image_map: Tensor) -> ImageKeysValues:
        """Keys and values of each layer from the image tokens, their mean in front."""
        image = image_map.flatten(2).transpose(1, 2)
        image = torch.cat([image.mean(dim=1, keepdim=True), image], dim=1)
        image = self.image_projection(image)
        return [layer.attention.keys_values(image) for layer in self.layers]

    def _chunks(self, candidates: Candidates) -> list[Candidates]:
        return candidates.split(self.chunk_size or len(candidates.queries))

    def _score(
        self, candidates: Candidates, image: ImageKeysValues
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

    def _refine(
        self, candidates: Candidates, image: ImageKeysValues
    ) -> tuple[Tensor, Tensor | None]:
        """(N, H) or (B, N, H) queries -> (B, N, H) and, with a cascade, (B, N) auxiliary logits."""
        first, given = self.layers[0], self._given(candidates, image)
        if self.cascade is None:
            refined, auxiliary = first(*given), None
        else:
            attended = first.cross_attend(*given)
            refined, auxiliary = first.feed_forward(attended), self.cascade.score(attended)
        for layer, keys_values in zip(self.layers[1:], image[1:], strict=True):
            refined = layer(refined, keys_values)
        return refined, auxiliary

    def _given(
        self, candidates: Candidates, image: ImageKeysValues
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor | None]:
        """The inputs of the first layer."""
        batch, projected = len(image[0][0]), candidates.projected
        queries = candidates.queries.to(self.output_projection.weight.dtype).expand(batch, -1, -1)
        projected = projected if projected is None else projected.expand(batch, -1, -1)
        return queries, image[0], projected

    def _forced(self, targets: Sequence[ImageTargets] | None, num_categories: int) -> Tensor | None:
        """(B, V) bool, the categories that must be selected; None where there are no such."""
        wanted = self.force_targets == "always" or (self.training and self.force_targets)
        if not wanted or targets is None:
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

    def _pad(self, slots: ClassSlots) -> ClassSlots:
        """Fills up to K with masked slots."""
        found = slots.num_slots
        missing = self.num_selected - found
        if missing:
            message = f"K = {self.num_selected}, but there are only {found} categories"
            log_first_n(logging.WARNING, f"{message}: {missing} slots stay empty", key="message")
        pad = nn.functional.pad
        return replace(
            slots,
            features=pad(slots.features, (0, 0, 0, missing)),
            vocab_ids=pad(slots.vocab_ids, (0, missing), value=NO_CATEGORY),
            valid=pad(slots.valid, (0, missing)),
        )


def _take(x: Tensor, places: Tensor) -> Tensor:
    """(B, N, H), (B, K) -> (B, K, H)."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
