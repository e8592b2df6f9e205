"""Datasets: loading and registration, the dataset mapper, samplers and loaders, EmojiDet."""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
from ..annotations.cache import Annotations, load_annotations
from ..annotations.vocabularies import (
    hierarchy_from_file,
    vocabulary_from_annotations,
    vocabulary_from_tree,
)
from .augmentation import (
    ResizeShortestEdgeTruncated,
    large_scale_jitter,
    resized_size,
    training_augmentations,
)
from .category_lists import CategoryLists
from .embedding_files import load_category_embeddings, random_category_embeddings
from .image_counts import category_image_counts
from .image_level.alternation import ImageLevelBatches
from .image_level.sets import get_image_level_records, register_image_level
from .loader import (
    build_test_loader,
    build_train_loader,
    get_test_records,
    get_training_records,
)
from .mapper import CategoryDatasetMapper
from .mosaic import CutMosaic, QuadrantMosaic
from .prompting.records import get_prompted_records, get_prompted_training_records
from .prompting.training import TrainingPrompts
from .records import Records
from .registration import (
    dataset_vocabulary,
    register_all,
    register_coco_like,
    register_odvg,
    registered_annotations,
    registered_descriptions,
    registered_prompt,
    registered_records,
    text_vocabulary,
)
from .text_records import RecordsOfSets, TextRecords

__all__ = [
    "Annotations",
    "CategoryDatasetMapper",
    "CategoryLists",
    "CutMosaic",
    "QuadrantMosaic",
    "ImageLevelBatches",
    "Records",
    "RecordsOfSets",
    "ResizeShortestEdgeTruncated",
    "TextRecords",
    "TrainingPrompts",
    "build_test_loader",
    "build_train_loader",
    "category_image_counts",
    "dataset_vocabulary",
    "get_image_level_records",
    "get_prompted_records",
    "get_prompted_training_records",
    "get_test_records",
    "get_training_records",
    "hierarchy_from_file",
    "large_scale_jitter",
    "load_annotations",
    "load_category_embeddings",
    "random_category_embeddings",
    "register_all",
    "register_coco_like",
    "register_image_level",
    "register_odvg",
    "registered_annotations",
    "registered_descriptions",
    "registered_prompt",
    "registered_records",
    "resized_size",
    "text_vocabulary",
    "training_augmentations",
    "vocabulary_from_annotations",
    "vocabulary_from_tree",
]
