"""Annotation files in COCO's, LVIS' and V3Det's form, category trees, and their cache."""

from .cache import Annotations, load_annotations
from .vocabularies import hierarchy_from_file, vocabulary_from_annotations, vocabulary_from_tree

__all__ = [
    "Annotations",
    "hierarchy_from_file",
    "load_annotations",
    "vocabulary_from_annotations",
    "vocabulary_from_tree",
]
