"""The meta-architecture and what frames it."""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
from .category_tagger import CategoryTagger
from .cqdino import CQDINO
from .grounding_dino import GroundingDINO
from .post_processing import PostProcessor

__all__ = ["CQDINO", "CategoryTagger", "GroundingDINO", "PostProcessor"]
