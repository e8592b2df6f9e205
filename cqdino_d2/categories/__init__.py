"""Category queries, their relations and the image-guided selection."""

from .queries import CategoryQueries
from .selection import ImageGuidedSelection
from .self_attention import CategorySelfAttention, LengthOneSelfAttention
from .tree import TreeAggregation

__all__ = [
    "CategoryQueries",
    "CategorySelfAttention",
    "ImageGuidedSelection",
    "LengthOneSelfAttention",
    "TreeAggregation",
]
