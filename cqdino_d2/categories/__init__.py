"""Category queries, their relations and the image-guided selection."""

from .all_categories import AllCategories
from .queries import CategoryEmbeddings, CategoryQueries
from .selection import ImageGuidedSelection
from .self_attention import CategorySelfAttention, LengthOneSelfAttention
from .tree import TreeAggregation

__all__ = [
    "AllCategories",
    "CategoryEmbeddings",
    "CategoryQueries",
    "CategorySelfAttention",
    "ImageGuidedSelection",
    "LengthOneSelfAttention",
    "TreeAggregation",
]
