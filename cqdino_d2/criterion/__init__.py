"""What is minimised."""

from .category_loss import CategoryLoss
from .losses import AsymmetricLoss, BinaryCrossEntropy, sigmoid_focal_loss
from .matcher import HungarianMatcher
from .set_criterion import SetCriterion

__all__ = [
    "AsymmetricLoss",
    "BinaryCrossEntropy",
    "CategoryLoss",
    "HungarianMatcher",
    "SetCriterion",
    "sigmoid_focal_loss",
]
