"""Annotation files in COCO's, LVIS', V3Det's and MDETR's form, category trees, and their cache."""

from .cache import Annotations, load_annotations
from .grounded_texts import GroundedTexts, read_grounded_texts
from .image_table import ImageTable, image_table
from .vocabularies import hierarchy_from_file, vocabulary_from_annotations, vocabulary_from_tree

__all__ = [
    "Annotations",
    "GroundedTexts",
    "ImageTable",
    "hierarchy_from_file",
    "image_table",
    "load_annotations",
    "read_grounded_texts",
    "vocabulary_from_annotations",
    "vocabulary_from_tree",
]
