"""The training loss of the detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..structures import (
    ClassSlots,
    DecoderOutput,
    DenoisingGroup,
    ImageTargets,
    LayerPredictions,
    Proposals,
)
from ..structures.stages import CategoryCriterion, LearnsFromTeacher
from .image_level import masked_losses
from .matched_losses import Matched, Observer
from .matcher import HungarianMatcher

Assignment = tuple[Tensor, Tensor, Tensor]  # images, query ids and target ids, all (M,) int64


class SetCriterion(nn.Module):
    """Matches predictions to boxes in every layer and sums the losses.

    Every loss applies to every decoder layer, the proposals and the denoising group; besides there
    is the image-level loss of the selection.

    Args:
        matcher: one-to-one matching.
        losses: `MatchedLoss`es, by names that serve configs alone.
        category_loss: of the scores of the vocabulary; None where nothing selects.
        observers: see every layer's predictions with their targets, e.g. `GradientBalance`, which
            logs figures about them.
        box_images_only: names of losses ('l1', 'giou', 'class', 'semantic') in which image-level
            images do not count, but for their proposals: RichSem's three switches, all off as it
            was shipped.

    Raises:
        ValueError: on use: no loss has such a name.
    """

    def __init__(
        self,
        *,
        matcher: HungarianMatcher,
        losses: Mapping[str, nn.Module],
        category_loss: CategoryCriterion | None,
        observers: Sequence[Observer] = (),
        box_images_only: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.matcher, self.category_loss = matcher, category_loss
        self.losses = nn.ModuleDict(losses)
        self.observers = list(observers)
        self.box_images_only = frozenset(box_images_only)
        self._num_boxes: float | None = None

    @contextmanager
    def counted_over(self, parts: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[None]:
        """Inside, the boxes of all parts of a step are counted, not those of the part at hand.

        With it the mean loss over the parts of a batch (gradient accumulation) is the loss of
        the batch.

        Args:
            parts: the inputs of the detector that make up the step.
        """
        device = parts[0][0]["instances"].gt_classes.device
        count = sum(len(item["instances"]) for part in parts for item in part)
        self._num_boxes = mean_over_processes(count / len(parts), device)
        try:
            yield
        finally:
            self._num_boxes = None

    def check_teacher(self, embedding_dim: int | None) -> None:
        """Lets every loss that learns from a teacher read what it compares it with.

        Args:
            embedding_dim: E of the teacher; None without one.

        Raises:
            ValueError, FileNotFoundError: the teacher or a file does not fit.
        """
        for loss in self.losses.values():
            if isinstance(loss, LearnsFromTeacher):
                loss.check_teacher(embedding_dim)

    def forward(
        self,
        output: DecoderOutput,
        proposals: Proposals,
        slots: ClassSlots,
        targets: Sequence[ImageTargets],
        denoising: DenoisingGroup | None,
    ) -> dict[str, Tensor]:
        """The weighted losses by name; their sum is what is minimised."""
        classes = [slots.multi_hot(i, target.vocab_ids) for i, target in enumerate(targets)]
        num_boxes = self._num_boxes
        if num_boxes is None:
            num_boxes = mean_over_processes(sum(len(t) for t in targets), output.logits.device)
        losses: dict[str, Tensor] = {}
        if self.category_loss is not None:
            losses = self.category_loss(slots.scores, targets)
        if denoising is not None:
            noised, output = output.split(denoising.content.shape[1])
            normaliser = max(1.0, num_boxes * denoising.num_groups)
            known = _denoising_assignment(denoising)
            for layer in noised.layers("_dn"):
                matched = _matched(layer.logits, classes, targets, known, normaliser, slots)
                losses |= self._layer_losses(layer, matched)
        for layer in [*output.layers(), proposals.predictions()]:
            found = self._match(layer, classes, targets)
            normaliser = max(1.0, num_boxes)
            matched = _matched(layer.logits, classes, targets, found, normaliser, slots)
            losses |= self._layer_losses(layer, matched)
        return losses

    def _match(
        self,
        layer: LayerPredictions,
        classes: Sequence[Tensor],
        targets: Sequence[ImageTargets],
    ) -> Assignment:
        boxes = [target.boxes_cxcywh_norm for target in targets]
        pairs = self.matcher(layer.logits, layer.boxes_cxcywh_norm, classes, boxes)
        images = [torch.full_like(query_ids, i) for i, (query_ids, _) in enumerate(pairs)]
        query_ids, target_ids = zip(*pairs, strict=True)
        return torch.cat(images), torch.cat(query_ids), torch.cat(target_ids)

    def _layer_losses(self, layer: LayerPredictions, matched: Matched) -> dict[str, Tensor]:
        for observe in self.observers:
            observe(layer, matched)
        found: dict[str, Tensor] = {}
        for loss in self.losses.values():
            found |= masked_losses(loss, layer, matched, self.box_images_only)
        if layer.name == "" and (unknown := self.box_images_only - found.keys()):
            raise ValueError(
                f"box_images_only names {sorted(unknown)}, the losses are {sorted(found)}"
            )
        return {f"loss_{name}{layer.name}": value for name, value in found.items()}


def _matched(
    logits: Tensor,
    classes: Sequence[Tensor],
    targets: Sequence[ImageTargets],
    assignment: Assignment,
    normaliser: float,
    slots: ClassSlots,
) -> Matched:
    images, query_ids, target_ids = assignment
    start = torch.tensor([0] + [len(t) for t in targets]).cumsum(0).to(logits.device)
    flat_ids = start[images] + target_ids
    class_targets = torch.zeros_like(logits)
    class_targets[images, query_ids] = torch.cat(list(classes))[flat_ids].to(logits.dtype)
    seen = [target.region_embeddings for target in targets]
    return Matched(
        images,
        query_ids,
        target_ids,
        class_targets,
        boxes_cxcywh_norm=torch.cat([target.boxes_cxcywh_norm for target in targets])[flat_ids],
        normaliser=normaliser,
        vocab_ids=torch.cat([target.vocab_ids for target in targets])[flat_ids],
        slot_vocab_ids=slots.vocab_ids,
        region_embeddings=None if None in seen else torch.cat(seen)[flat_ids],
        listed=tuple(target.listed for target in targets),
        image_level=tuple(target.image_level for target in targets),
    )


def _denoising_assignment(denoising: DenoisingGroup) -> Assignment:
    images, query_ids = (denoising.target_ids >= 0).nonzero(as_tuple=True)
    return images, query_ids, denoising.target_ids[images, query_ids]


def mean_over_processes(number: float, device: torch.device) -> float:
    """The mean of a number over all processes of the job."""
    if not (dist.is_available() and dist.is_initialized()):
        return float(number)
    tensor = torch.tensor(float(number), device=device)
    dist.all_reduce(tensor)
    return float(tensor) / dist.get_world_size()
