"""Annotation files in COCO's, LVIS' and V3Det's form, category trees, and their cache."""

from .cache import Annotations, load_annotations
from .image_table import ImageTable, image_table
from .vocabularies import hierarchy_from_file, vocabulary_from_annotations, vocabulary_from_tree

__all__ = [
    "Annotations",
    "ImageTable",
    "hierarchy_from_file",
    "image_table",
    "load_annotations",
    "vocabulary_from_annotations",
    "vocabulary_from_tree",
]
