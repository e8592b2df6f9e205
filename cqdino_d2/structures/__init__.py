"""Plain data that travels between the stages."""

from .hierarchy import CategoryHierarchy, RaggedIndex
from .vocabulary import Vocabulary, load_vocabulary, random_vocabulary

__all__ = [
    "CategoryHierarchy",
    "RaggedIndex",
    "Vocabulary",
    "load_vocabulary",
    "random_vocabulary",
]
