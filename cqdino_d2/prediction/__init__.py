"""Trained detectors at work: Detectron2's predictor, one over a free vocabulary, one for words."""

from .. import detector  # noqa: F401  registers the meta-architectures
from .category_predictor import CategoryPredictor
from .predictor_config import get_predictor_cfg
from .text_predictor import TextPredictor

__all__ = ["CategoryPredictor", "TextPredictor", "get_predictor_cfg"]
