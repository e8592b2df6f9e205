"""One-to-one matching of predictions and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layers import cxcywh_to_xyxy, paired_generalized_iou

_WORST = 1e8  # above any finite cost


class HungarianMatcher:
    """The cheapest assignment under class, L1 and GIoU costs (DETR, arXiv 2005.12872).

    Args:
        class_weight, l1_weight, giou_weight: weights of the costs.
        alpha, gamma: of the focal-type class cost.
        eps: kept from the logarithms of the class cost. RichSem's is 1e-8: probabilities below it
            cost the same.
        all_slots: whether the class cost sums over all K slots, as MM-Grounding-DINO's and
            CQ-DINO's. Else it is the mean over the box's own: its category in DINO, its tokens in
            Open-GroundingDino and Hugging Face's Grounding DINO.
    """

    def __init__(
        self,
        *,
        class_weight: float = 2.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        eps: float = 1e-12,
        all_slots: bool = True,
    ) -> None:
        self.class_weight, self.l1_weight, self.giou_weight = class_weight, l1_weight, giou_weight
        self.alpha, self.gamma, self.eps, self.all_slots = alpha, gamma, eps, all_slots

    @torch.no_grad()
    def __call__(
        self,
        logits: Tensor,
        boxes: Tensor,
        target_classes: Sequence[Tensor],
        target_boxes: Sequence[Tensor],
    ) -> list[tuple[Tensor, Tensor]]:
        """Matches every image of a batch.

        A prediction that is not finite is matched last; the loss then shows where it came from.

        Args:
            logits: (B, Q, K).
            boxes: (B, Q, 4) cxcywh, normalised.
            target_classes: per image (N, K) multi-hot over the slots; a row may be empty.
            target_boxes: per image (N, 4) cxcywh, normalised.

        Returns:
            Per image two (min(Q, N),) int64 tensors: query ids ascending, and their boxes' ids.
        """
        counts = [len(image_boxes) for image_boxes in target_boxes]
        cost = self._cost(logits, boxes, torch.cat(list(target_classes)), torch.cat(target_boxes))
        cost = cost.nan_to_num(nan=_WORST, posinf=_WORST, neginf=_WORST).cpu()
        own_costs = [block[i] for i, block in enumerate(cost.split(counts, dim=-1))]
        from scipy.optimize import linear_sum_assignment  # a prediction does without

        pairs = [linear_sum_assignment(own.numpy()) for own in own_costs]
        return [
            (torch.from_numpy(query_ids).to(logits.device), torch.from_numpy(ids).to(logits.device))
            for query_ids, ids in pairs
        ]

    def _cost(
        self, logits: Tensor, boxes: Tensor, target_classes: Tensor, target_boxes: Tensor
    ) -> Tensor:
        """(B, Q, boxes of the whole batch); only each image's own block is used."""
        cost = self.class_weight * self._class_cost(logits, target_classes)
        cost = cost + self.l1_weight * torch.cdist(boxes, target_boxes, p=1)
        giou = paired_generalized_iou(
            cxcywh_to_xyxy(boxes)[:, :, None], cxcywh_to_xyxy(target_boxes)
        )
        return cost - self.giou_weight * giou

    def _class_cost(self, logits: Tensor, target_classes: Tensor) -> Tensor:
        """(B, Q, N): what it costs to call query q by the categories of box n."""
        p, eps = logits.sigmoid(), self.eps
        positive = -(p + eps).log() * self.alpha * (1 - p).pow(self.gamma)
        negative = -(1 - p + eps).log() * (1 - self.alpha) * p.pow(self.gamma)
        if not self.all_slots:
            own = target_classes / target_classes.sum(dim=1, keepdim=True).clamp(min=1)
            return (positive - negative) @ own.T
        return positive @ target_classes.T + negative @ (1 - target_classes).T
