"""Annotation files in COCO's, LVIS', V3Det's, MDETR's and ODVG's form, trees, and their cache."""

from .cache import Annotations, load_annotations
from .grounded_texts import GroundedTexts, read_grounded_texts
from .image_table import ImageTable, image_table
from .odvg_sets import load_odvg_annotations, load_odvg_texts
from .vocabularies import hierarchy_from_file, vocabulary_from_annotations, vocabulary_from_tree

__all__ = [
    "Annotations",
    "GroundedTexts",
    "ImageTable",
    "hierarchy_from_file",
    "image_table",
    "load_annotations",
    "load_odvg_annotations",
    "load_odvg_texts",
    "read_grounded_texts",
    "vocabulary_from_annotations",
    "vocabulary_from_tree",
]
