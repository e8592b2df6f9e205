"""The meta-architecture and what frames it."""

from .category_tagger import CategoryTagger
from .cqdino import CQDINO
from .grounding_dino import GroundingDINO
from .post_processing import PostProcessor

__all__ = ["CQDINO", "CategoryTagger", "GroundingDINO", "PostProcessor"]
