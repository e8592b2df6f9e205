"""How the gradient of the class loss is shared out among the logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..structures import LayerPredictions
from .matched_losses import Matched


def sigmoid_focal_gradient(
    logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """The size |dL/dx| of `sigmoid_focal_loss`'s gradient with respect to each logit.

    Args:
        logits: of any shape.
        targets: 0 or 1, of the same shape.
        alpha, gamma: of the loss.
    """
    miss = torch.where(targets > 0, -logits, logits).sigmoid()  # 1 - p of what is right
    hit_log = F.logsigmoid(torch.where(targets > 0, logits, -logits))
    weight = torch.where(targets > 0, alpha, 1 - alpha)
    return weight * miss.pow(gamma) * (miss - gamma * (1 - miss) * hit_log)


class GradientBalance(nn.Module):
    """Logs how much of the class logits' gradient comes from positives and from hard negatives.

    The paper's measure (section 3.1) is the sum of the gradients' sizes over positive logits,
    divided by that over negative ones: easy negatives in great number dilute the positives. With
    it go the hard negatives: those whose predicted probability is above ``hard``, as a share of
    all negative logits and, weighted by gradient, of all negative gradient.

    It reads existing logits every ``period`` steps and needs no backward pass. The
    figures go to Detectron2's event storage: ``gradient/positive_to_negative``,
    ``gradient/hard_share`` (of the negative gradient), ``gradient/hard_count_share`` and
    ``gradient/negatives_per_positive``.

    Args:
        period: N; the logits are read every N steps.
        hard: probability above which a negative is hard; ten times the class prior of 0.01.
        alpha, gamma: of the focal loss.

    Raises:
        ValueError: ``period`` is below 1.
    """

    def __init__(
        self, *, period: int = 20, hard: float = 0.1, alpha: float = 0.25, gamma: float = 2.0
    ) -> None:
        super().__init__()
        if period < 1:
            raise ValueError(f"period must be at least 1 step, got {period}")
        self.period, self.hard, self.alpha, self.gamma = period, hard, alpha, gamma

    @torch.no_grad()
    def forward(self, predictions: LayerPredictions, matched: Matched) -> None:
        """The last decoder layer's object queries -> figures in the event storage.

        Nothing is logged where there is no positive logit.
        """
        storage = get_event_storage()
        if predictions.name == "" and storage.iter % self.period == 0:
            found = self.figures(predictions.logits, matched.class_targets)
            for name, figure in found.items():
                storage.put_scalar(f"gradient/{name}", figure, smoothing_hint=False)

    def figures(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """The figures by name; empty without a positive or without a negative logit."""
        logits, positive = logits.detach().float(), targets > 0
        size = sigmoid_focal_gradient(logits, targets, self.alpha, self.gamma)
        hard = ~positive & (logits.sigmoid() > self.hard)
        counts = torch.stack([positive.sum(), (~positive).sum(), hard.sum()]).tolist()
        sums = torch.stack([size[mask].sum() for mask in (positive, ~positive, hard)]).tolist()
        if not (counts[0] and sums[1]):
            return {}
        return {
            "positive_to_negative": sums[0] / sums[1],
            "hard_share": sums[2] / sums[1],
            "hard_count_share": counts[2] / counts[1],
            "negatives_per_positive": counts[1] / counts[0],
        }
