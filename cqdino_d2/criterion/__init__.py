"""What is minimised."""

from .. import needs_torch  # noqa: F401  says how to get PyTorch
from .category_loss import CategoryLoss
from .federated import FederatedFocalLoss
from .gradient_balance import GradientBalance, sigmoid_focal_gradient
from .losses import AsymmetricLoss, BinaryCrossEntropy, sigmoid_focal_loss
from .matched_losses import BoxLosses, FocalLoss, Matched, MatchedLoss, Observer
from .matcher import HungarianMatcher
from .semantic import SemanticLoss
from .set_criterion import SetCriterion

__all__ = [
    "AsymmetricLoss",
    "BinaryCrossEntropy",
    "BoxLosses",
    "CategoryLoss",
    "FederatedFocalLoss",
    "FocalLoss",
    "GradientBalance",
    "HungarianMatcher",
    "Matched",
    "MatchedLoss",
    "Observer",
    "SemanticLoss",
    "SetCriterion",
    "sigmoid_focal_gradient",
    "sigmoid_focal_loss",
]
