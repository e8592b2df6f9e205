"""Losses on predictions that have been matched to boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import cxcywh_to_xyxy, paired_generalized_iou
from ..structures import LayerPredictions, ListedCategories
from .losses import sigmoid_focal_loss


@dataclass(frozen=True)
class Matched:
    """Which predictions of a layer stand for which boxes, over a batch, and what they should say.

    Attributes:
        images: (M,) int64, positions in the batch.
        query_ids: (M,) int64.
        target_ids: (M,) int64, the box among those of its image.
        class_targets: (B, Q, S), what every logit should be: 0 or 1.
        boxes_cxcywh_norm: (M, 4), the boxes of the matched.
        normaliser: what sums are divided by: the mean number of boxes per process, at least 1.
        vocab_ids: (M,) int64, the categories of the matched.
        slot_vocab_ids: (B, S) int64, the category that each slot stands for, -1 for none.
        region_embeddings: (M, E), what a teacher sees in the boxes; None without a teacher.
        listed: of each of the B images, what LVIS' lists tell of it.
        image_level: of each of the B images, whether it has a label and no box.
    """

    images: Tensor
    query_ids: Tensor
    target_ids: Tensor
    class_targets: Tensor
    boxes_cxcywh_norm: Tensor
    normaliser: float
    vocab_ids: Tensor
    slot_vocab_ids: Tensor
    region_embeddings: Tensor | None = None
    listed: tuple[ListedCategories | None, ...] = ()
    image_level: tuple[bool, ...] = ()


class MatchedLoss(Protocol):
    """A loss on one layer's matched predictions."""

    def __call__(self, predictions: LayerPredictions, matched: Matched) -> dict[str, Tensor]:
        """Weighted scalar losses by name; the layer's name is added to these."""


class Observer(Protocol):
    """Looks at matched predictions and changes nothing."""

    def __call__(self, predictions: LayerPredictions, matched: Matched) -> None:
        """Called for every layer of a step."""


class FocalLoss(nn.Module):
    """Focal class loss over all queries and slots.

    Args:
        weight: factor on the loss.
        alpha, gamma: see `sigmoid_focal_loss`.
    """

    def __init__(self, *, weight: float = 1.0, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.weight, self.alpha, self.gamma = weight, alpha, gamma

    def forward(self, predictions: LayerPredictions, matched: Matched) -> dict[str, Tensor]:
        """The sum over (B, Q, S) by the normaliser."""
        loss = sigmoid_focal_loss(
            predictions.logits, matched.class_targets, self.alpha, self.gamma
        ).sum()
        return {"class": self.weight * loss / matched.normaliser}


class BoxLosses(nn.Module):
    """L1 and generalised IoU of the matched boxes.

    Args:
        l1_weight, giou_weight: factors on the losses.
    """

    def __init__(self, *, l1_weight: float = 5.0, giou_weight: float = 2.0) -> None:
        super().__init__()
        self.l1_weight, self.giou_weight = l1_weight, giou_weight

    def forward(self, predictions: LayerPredictions, matched: Matched) -> dict[str, Tensor]:
        """Sums over the M matched boxes by the normaliser."""
        predicted = predictions.boxes_cxcywh_norm[matched.images, matched.query_ids]
        wanted = matched.boxes_cxcywh_norm
        giou = paired_generalized_iou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(wanted))
        l1_loss = F.l1_loss(predicted, wanted, reduction="sum")
        return {
            "l1": self.l1_weight * l1_loss / matched.normaliser,
            "giou": self.giou_weight * (1 - giou).sum() / matched.normaliser,
        }
