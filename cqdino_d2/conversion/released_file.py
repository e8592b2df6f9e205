"""A released file as a whole: its categories, the model it belongs to, and what is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from ..annotations import vocabulary_from_annotations, vocabulary_from_tree
from ..categories import (
    CategoryQueries,
    CategorySelfAttention,
    LengthOneSelfAttention,
    TextTable,
    TreeAggregation,
)
from ..checkpoint import Family, family_of, read_released, weights_of
from ..data import load_category_embeddings, register_all
from ..engine import load_config
from ..engine.config import reads_words
from ..structures import Vocabulary, load_vocabulary
from .model_file import build_on_meta, convert_by_family, save, write_model
from .request import ConversionOutcome, ConversionRequest
from .text_detector import convert_text_detector


def convert_released_file(request: ConversionRequest) -> ConversionOutcome:
    """Writes a checkpoint, for CQ-DINO with its vocabulary.json, or an embedding file with ids.

    Nothing is written where a name stays unexplained or the config computes something else.

    Raises:
        ValueError: input that cannot be used, or a folder of another model.
        FileNotFoundError: a file is missing.
        ModuleNotFoundError: nothing says which words a text-prompted model reads.
    """
    content = read_released(request.input)
    cfg = load_config(request.config_file, request.overrides)
    if "embeddings" in content and "categories" in content:
        vocabulary = choose_vocabulary(cfg, request)
        return _convert_embeddings(request, vocabulary, cfg.model.categories.dim)
    weights = weights_of(content, request.input)
    family = family_of(weights, request.input)
    if family.words != reads_words(cfg):
        asked = "is asked in words" if reads_words(cfg) else "has fixed categories"
        raise ValueError(
            f"{request.input} is of another family ({family.name}): the model of "
            f"{request.config_file} {asked}"
        )
    convert = convert_text_detector if family.words else _convert_detector
    return convert(request, cfg, family, weights)


def _convert_detector(
    request: ConversionRequest, cfg: DictConfig, family: Family, weights: Mapping[str, Tensor]
) -> ConversionOutcome:
    """Writes a CQ-DINO with its vocabulary."""
    vocabulary = choose_vocabulary(cfg, request)
    embeddings = None
    if request.category_embeddings is not None:  # raises an error where they do not fit
        dim = cfg.model.categories.dim
        embeddings = load_category_embeddings(request.category_embeddings, vocabulary, dim)
    model = build_on_meta(cfg, vocabulary)
    conversion, line = convert_by_family(family, weights, request)
    if isinstance(model.categories, TextTable):
        if embeddings is None:
            raise ValueError(
                "the text table of this model is in no released checkpoint: name its file with "
                "--category-embeddings (build_category_embeddings.py --preset richsem makes it)"
            )
        conversion.weights["categories.embeddings"] = embeddings
        conversion.released_name["categories.embeddings"] = str(request.category_embeddings)
    outcome = write_model(
        request,
        cfg,
        model,
        conversion,
        problems=check_relation(model, vocabulary),
        write_beside=lambda path: save_vocabulary(vocabulary, path.parent),
    )
    return replace(outcome, lines=(line, *outcome.lines))


def choose_vocabulary(cfg: DictConfig, request: ConversionRequest) -> Vocabulary:
    """The categories by the most direct source that is named; the config's own otherwise."""
    if request.annotations is not None:
        return vocabulary_from_annotations(request.annotations, request.category_tree)
    if request.category_tree is not None:
        return vocabulary_from_tree(request.category_tree)
    register_all()
    try:
        return instantiate(cfg.vocabulary)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}\nThe categories can also come from --annotations GT.json or --category-tree"
        ) from error


def check_relation(model: nn.Module, vocabulary: Vocabulary) -> list[str]:
    """What makes the config compute something else than the released code, though names fit."""
    if not isinstance(model.categories, CategoryQueries):
        return []
    relation = model.categories.relation
    if isinstance(relation, CategorySelfAttention) and not isinstance(
        relation, LengthOneSelfAttention
    ):
        return [
            "this config has real attention over the categories; the released weights were "
            "trained with attention over a sequence of length one. Convert with the config of "
            "that form (configs/coco/cqdino_sa_swinl_released.py); a new training with real "
            "attention can start from the result (train.init_checkpoint)"
        ]
    if isinstance(relation, TreeAggregation) and relation.num_steps == 0:
        return [
            f"the vocabulary of {len(vocabulary)} categories has no tree, which this config's "
            "relation needs: name its file with --category-tree"
        ]
    return []


def _convert_embeddings(
    request: ConversionRequest, vocabulary: Vocabulary, dim: int
) -> ConversionOutcome:
    """Writes an embedding file with ids."""
    content = {
        "embeddings": load_category_embeddings(request.input, vocabulary, dim),
        "categories": list(vocabulary.names),
        "ids": list(vocabulary.dataset_ids),
    }
    save(content, request.output)
    count = f"{len(vocabulary)} embeddings of {dim} numbers, with their ids"
    return ConversionOutcome((f"wrote {request.output}: {count}",))


def save_vocabulary(vocabulary: Vocabulary, folder: Path) -> None:
    """Writes vocabulary.json; one of other categories is not overwritten."""
    path = folder / "vocabulary.json"
    if path.is_file() and load_vocabulary(path).dataset_ids != vocabulary.dataset_ids:
        raise ValueError(
            f"{path} has other categories (another model lies there): choose another folder for "
            "--output"
        )
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary.save(path)
