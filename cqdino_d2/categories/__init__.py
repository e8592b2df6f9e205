"""Category queries, their relations and the image-guided selection."""

from .. import needs_torch  # noqa: F401  says how to get PyTorch
from .all_categories import AllCategories
from .all_queries import AllQueries
from .pooled_selection import PooledSelection
from .prompt_vectors import PromptVectors
from .queries import CategoryEmbeddings, CategoryQueries, TextTable
from .selection import ImageGuidedSelection
from .self_attention import CategorySelfAttention, LengthOneSelfAttention
from .text_queries import TextQueries
from .tree import TreeAggregation

__all__ = [
    "AllCategories",
    "AllQueries",
    "CategoryEmbeddings",
    "CategoryQueries",
    "CategorySelfAttention",
    "ImageGuidedSelection",
    "LengthOneSelfAttention",
    "PooledSelection",
    "PromptVectors",
    "TextQueries",
    "TextTable",
    "TreeAggregation",
]
