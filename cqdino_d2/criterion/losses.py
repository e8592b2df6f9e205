"""Element-wise classification losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal_loss(
    logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Focal loss (arXiv 1708.02002), element by element, same shape as the logits."""
    probability = logits.sigmoid()
    miss = probability * (1 - targets) + (1 - probability) * targets
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return weight * miss.pow(gamma) * entropy


@dataclass(frozen=True)
class AsymmetricLoss:
    """Asymmetric loss (arXiv 2009.14119), element by element.

    The focusing weights carry no gradient.

    Attributes:
        gamma_negative, gamma_positive: focusing exponents.
        clip: negatives below this probability cost nothing.
    """

    gamma_negative: float = 7.0
    gamma_positive: float = 0.0
    clip: float = 0.05

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits and targets in {0, 1} of one shape -> losses of that shape."""
        positive = logits.sigmoid()
        negative = (1 - positive + self.clip).clamp(max=1)
        log_likelihood = targets * positive.clamp(min=1e-8).log()
        log_likelihood = log_likelihood + (1 - targets) * negative.clamp(min=1e-8).log()
        with torch.no_grad():
            likelihood = positive * targets + negative * (1 - targets)
            gamma = self.gamma_positive * targets + self.gamma_negative * (1 - targets)
            weight = (1 - likelihood).pow(gamma)
        return -weight * log_likelihood


class BinaryCrossEntropy:
    """Plain binary cross-entropy on logits, element by element."""

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits and targets in [0, 1] of one shape -> losses of that shape."""
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
