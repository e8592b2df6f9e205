"""Trained detectors at work: Detectron2's predictor, and one over a free vocabulary."""

from .. import detector  # noqa: F401  registers the meta-architectures
from .category_predictor import CategoryPredictor
from .predictor_config import get_predictor_cfg

__all__ = ["CategoryPredictor", "get_predictor_cfg"]
