"""Reads the files of a dataset's source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..annotations.cache import Annotations, load_annotations
from ..annotations.grounded_texts import GroundedTexts, read_grounded_texts
from ..annotations.image_level.labelled_images import load_labelled_images
from ..annotations.law import refuse_for_training
from ..annotations.odvg_sets import ODVG, load_odvg_annotations, load_odvg_texts
from ..annotations.vocabularies import vocabulary_of_categories
from ..files import inside
from ..structures import Vocabulary
from .image_level.class_folders import load_class_folders
from .image_sizes import sizes_from_heads
from .sources import Source
from .text_prompts import names_in_order

_DESCRIPTION_FIELDS = ("cat_info", "def", "cat_info_gpt4v", "cat_info_gpt4", "cat_info_gpt")


def read_annotations(source: Source, categories: Sequence[Mapping[str, Any]] = ()) -> Annotations:
    """The columns of a source whose images have categories.

    Args:
        source: of a dataset.
        categories: those of the set that ``categories_of`` names, where it names one.

    Raises:
        ValueError: a file that cannot be understood, or that a training refuses.
        FileNotFoundError: a file is missing.
    """
    if source.categories_of is not None:
        annotations = load_class_folders(source.json_file, categories, source.layout)
    elif source.is_image_level:
        sizes_of = partial(_sizes_in, source.image_root)
        annotations = load_labelled_images(source.json_file, source.layout, sizes_of=sizes_of)
    elif source.label_map is None:
        annotations = load_annotations(source.json_file, source.layout)
    else:
        annotations = load_odvg_annotations(source.json_file, source.label_map, source.layout)
    refuse_for_training(annotations, source.json_file)
    return annotations


def _sizes_in(folder: str, names: Sequence[str]) -> tuple[np.ndarray, Mapping[int, str]]:
    return sizes_from_heads([str(inside(folder, name)) for name in names])


def read_texts(source: Source) -> GroundedTexts:
    """The texts of a source whose images have their own.

    Raises:
        ValueError: a file that cannot be understood.
        FileNotFoundError: it is missing.
    """
    if source.evaluator_type == ODVG:
        return load_odvg_texts(source.json_file, source.layout)
    return read_grounded_texts(source.json_file, source.evaluator_type, source.layout)


@contextmanager
def naming(json_file: str) -> Iterator[None]:
    """Says in a ValueError which file it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{json_file}: {error}") from error


def image_root_of(source: Source, first_image: str) -> str:
    """The folder that has the first image; the usual one if none has."""
    roots = (source.image_root, *source.other_roots) if source.other_roots else ()
    for root in roots:
        if os.path.isfile(os.path.join(root, first_image)):
            return root
    if not os.path.isdir(source.image_root):
        hint = f"; expected layout: {source.layout}" if source.layout else ""
        raise FileNotFoundError(f"no such image folder: {source.image_root}{hint}")
    return source.image_root


def _description(category: Mapping[str, Any]) -> str:
    found = (category.get(field) for field in _DESCRIPTION_FIELDS)
    return next((text for text in found if isinstance(text, str) and text), "")


def read_vocabulary(source: Source, annotations: Annotations) -> tuple[Vocabulary, dict[str, Any]]:
    """The vocabulary of a source, and what the catalog is told of it.

    Raises:
        ValueError: no categories, other ones than the source wants, or a tree that does not fit.
        FileNotFoundError: the tree is missing.
    """
    categories = annotations.categories()
    if not categories:
        raise ValueError(f"{source.json_file} lists no categories")
    try:
        vocabulary = vocabulary_of_categories(
            categories, source.tree_file, node_field=source.tree_node_field, layout=source.layout
        )
    except ValueError as error:
        raise ValueError(f"{source.json_file}: {error}") from error
    if source.class_names:
        names = names_in_order(source.class_names, vocabulary.names, source.json_file)
        vocabulary = replace(vocabulary, names=names)
    metadata: dict[str, Any] = {
        "thing_classes": list(vocabulary.names),
        "thing_dataset_id_to_contiguous_id": dict(vocabulary.vocab_id_of),
        "descriptions": [_description(row) for row in categories],
        "hierarchy": vocabulary.hierarchy,
    }
    for field in ("frequency", "novel"):
        if all(field in row for row in categories):
            metadata[field] = [row[field] for row in categories]
    return vocabulary, metadata
