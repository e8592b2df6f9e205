"""The meta-architecture and what frames it."""

from .cqdino import CQDINO
from .post_processing import PostProcessor

__all__ = ["CQDINO", "PostProcessor"]
