"""The training loss of the detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import cxcywh_to_xyxy, paired_generalized_iou
from ..structures import (
    DecoderOutput,
    DenoisingGroup,
    ImageTargets,
    Proposals,
    SelectedCategories,
)
from .losses import sigmoid_focal_loss
from .matcher import HungarianMatcher


@dataclass(frozen=True)
class _Assignment:
    """Which predictions stand for which boxes, over a batch: all (M,) int64."""

    images: Tensor
    query_ids: Tensor
    target_ids: Tensor


class SetCriterion(nn.Module):
    """Matches predictions to boxes in every layer and sums the losses.

    Focal class loss over queries and slots, L1 and GIoU box losses on the matched, each divided
    by the mean number of boxes per process; for every decoder layer, the proposals and the
    denoising group; plus the image-level category loss.

    Args:
        matcher: one-to-one matching.
        category_loss: the loss of the selection, e.g. `CategoryLoss`; None where nothing selects.
        balance: sees the class logits of the last layer's object queries with their targets, e.g.
            `GradientBalance`, which logs figures about them.
        class_weight, l1_weight, giou_weight: weights of the losses.
    """

    def __init__(
        self,
        *,
        matcher: HungarianMatcher,
        category_loss: nn.Module | None,
        balance: nn.Module | None = None,
        class_weight: float = 1.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
    ) -> None:
        super().__init__()
        self.matcher, self.category_loss, self.balance = matcher, category_loss, balance
        self.class_weight, self.l1_weight, self.giou_weight = class_weight, l1_weight, giou_weight
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

    def forward(
        self,
        output: DecoderOutput,
        proposals: Proposals,
        categories: SelectedCategories,
        targets: Sequence[ImageTargets],
        denoising: DenoisingGroup | None,
    ) -> dict[str, Tensor]:
        """The weighted losses by name; their sum is what is minimised."""
        classes = [self._multi_hot(i, t, categories) for i, t in enumerate(targets)]
        num_boxes = self._num_boxes
        if num_boxes is None:
            num_boxes = mean_over_processes(sum(len(t) for t in targets), output.logits.device)
        losses = {}
        if self.category_loss is not None:
            losses = {
                f"loss_category{suffix}": self.category_loss(logits, targets)
                for suffix, logits in categories.trained_logits().items()
            }
        if denoising is not None:
            noised, output = output.split(denoising.content.shape[1])
            normaliser = max(1.0, num_boxes * denoising.num_groups)
            known = _denoising_assignment(denoising)
            for suffix, logits, boxes in _named_layers(noised, "_dn"):
                losses |= self._layer(suffix, logits, boxes, classes, targets, known, normaliser)
        layers = _named_layers(output, "")
        layers.append(("_enc", proposals.logits, proposals.boxes_cxcywh_norm))
        for suffix, logits, boxes in layers:
            found = self._match(logits, boxes, classes, targets)
            losses |= self._layer(
                suffix, logits, boxes, classes, targets, found, max(1.0, num_boxes)
            )
        return losses

    def _multi_hot(
        self, image: int, target: ImageTargets, categories: SelectedCategories
    ) -> Tensor:
        """(N, K): each box's slot; a row stays empty where its category was not selected."""
        slots = categories.slot_ids(image, target.vocab_ids)
        rows = torch.zeros(len(slots), categories.vocab_ids.shape[1], device=slots.device)
        found = slots >= 0
        rows[found.nonzero().squeeze(1), slots[found]] = 1
        return rows

    def _match(
        self,
        logits: Tensor,
        boxes: Tensor,
        classes: Sequence[Tensor],
        targets: Sequence[ImageTargets],
    ) -> _Assignment:
        pairs = self.matcher(logits, boxes, classes, [t.boxes_cxcywh_norm for t in targets])
        images = [torch.full_like(query_ids, i) for i, (query_ids, _) in enumerate(pairs)]
        query_ids, target_ids = zip(*pairs, strict=True)
        return _Assignment(torch.cat(images), torch.cat(query_ids), torch.cat(target_ids))

    def _layer(
        self,
        suffix: str,
        logits: Tensor,
        boxes: Tensor,
        classes: Sequence[Tensor],
        targets: Sequence[ImageTargets],
        assigned: _Assignment,
        normaliser: float,
    ) -> dict[str, Tensor]:
        """Losses of one layer's (B, Q, K) logits and (B, Q, 4) boxes."""
        start = torch.tensor([0] + [len(t) for t in targets]).cumsum(0).to(logits.device)
        flat_ids = start[assigned.images] + assigned.target_ids
        class_targets = torch.zeros_like(logits)
        class_targets[assigned.images, assigned.query_ids] = torch.cat(list(classes))[flat_ids].to(
            logits.dtype
        )
        if self.balance is not None and not suffix:
            self.balance(logits, class_targets)
        predicted = boxes[assigned.images, assigned.query_ids]
        wanted = torch.cat([t.boxes_cxcywh_norm for t in targets])[flat_ids]
        giou = paired_generalized_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(wanted))
        class_loss = sigmoid_focal_loss(logits, class_targets).sum()
        l1_loss = F.l1_loss(predicted, wanted, reduction="sum")
        return {
            f"loss_class{suffix}": self.class_weight * class_loss / normaliser,
            f"loss_l1{suffix}": self.l1_weight * l1_loss / normaliser,
            f"loss_giou{suffix}": self.giou_weight * (1 - giou).sum() / normaliser,
        }


def _named_layers(output: DecoderOutput, kind: str) -> list[tuple[str, Tensor, Tensor]]:
    """(suffix, logits, boxes) of every decoder layer; the last layer has no number."""
    last = len(output.logits) - 1
    return [
        (kind if i == last else f"{kind}_{i}", output.logits[i], output.boxes_cxcywh_norm[i])
        for i in range(last + 1)
    ]


def _denoising_assignment(denoising: DenoisingGroup) -> _Assignment:
    images, query_ids = (denoising.target_ids >= 0).nonzero(as_tuple=True)
    return _Assignment(images, query_ids, denoising.target_ids[images, query_ids])


def mean_over_processes(number: float, device: torch.device) -> float:
    """The mean of a number over all processes of the job."""
    if not (dist.is_available() and dist.is_initialized()):
        return float(number)
    tensor = torch.tensor(float(number), device=device)
    dist.all_reduce(tensor)
    return float(tensor) / dist.get_world_size()
