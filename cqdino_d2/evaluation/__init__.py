"""What a detector is worth: figures from predictions and annotations."""

from .category_evaluator import CategoryDetectionEvaluator
from .category_recall import category_recall
from .coco_protocol import coco_box_figures, load_ground_truth
from .detections import Detections

__all__ = [
    "CategoryDetectionEvaluator",
    "Detections",
    "category_recall",
    "coco_box_figures",
    "load_ground_truth",
]
