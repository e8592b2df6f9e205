"""A released file as a whole: its categories, the model it belongs to, and what is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from ..annotations import vocabulary_from_annotations, vocabulary_from_tree
from ..categories import CategorySelfAttention, LengthOneSelfAttention, TreeAggregation
from ..checkpoint import (
    ConversionReport,
    convert_released_weights,
    read_mmengine_file,
    weights_of,
)
from ..data import load_category_embeddings, register_all
from ..engine import load_config
from ..engine.config import with_vocabulary, without_pretrained
from ..files import write_atomically
from ..structures import Vocabulary, load_vocabulary


@dataclass(frozen=True)
class ConversionRequest:
    """What is to be converted.

    Attributes:
        input: released checkpoint, or embedding file.
        config_file: the recipe it belongs to.
        output: file to write.
        category_tree: the released table (.csv) or V3Det's tree JSON, or None.
        annotations: any annotation file of the data set, or None.
        category_embeddings: released embedding file whose categories must be the vocabulary's, or
            None.
        patch_merging: 'microsoft' or 'mmdet', see `convert_released_weights`.
        overrides: ``key=value`` of the config.
    """

    input: Path
    config_file: Path
    output: Path
    category_tree: Path | None = None
    annotations: Path | None = None
    category_embeddings: Path | None = None
    patch_merging: str = "microsoft"
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConversionOutcome:
    """What became of it.

    Attributes:
        lines: what became of every name, and what was written.
        problems: why nothing was written; empty if something was.
    """

    lines: tuple[str, ...]
    problems: tuple[str, ...] = ()


def convert_released_file(request: ConversionRequest) -> ConversionOutcome:
    """Writes a checkpoint with its vocabulary.json, or an embedding file with ids.

    Nothing is written where a name stays unexplained or the config computes something else.

    Raises:
        ValueError: input that cannot be used, or a folder of another model.
        FileNotFoundError: a file is missing.
    """
    content = read_mmengine_file(request.input)
    cfg = load_config(request.config_file, request.overrides)
    vocabulary = choose_vocabulary(cfg, request)
    dim = cfg.model.categories.dim
    if "embeddings" in content and "categories" in content:
        return _convert_embeddings(request, vocabulary, dim)
    if request.category_embeddings is not None:  # raises an error where they do not fit
        load_category_embeddings(request.category_embeddings, vocabulary, dim)
    model = build_on_meta(cfg, vocabulary)
    weights = weights_of(content, request.input)
    conversion = convert_released_weights(weights, patch_merging=request.patch_merging)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    report = ConversionReport.compare(conversion, expected)
    lines = (*report.lines(), f"order of the patch merging's channels: {request.patch_merging}")
    problems = check_relation(model, vocabulary)
    if not report.complete:
        problems.append(f"{request.input} does not fit {request.config_file} (see above)")
    if problems:
        return ConversionOutcome(lines, tuple(problems))
    kept = {name: conversion.weights[name] for name in report.converted.values()}
    output = request.output
    save_vocabulary(vocabulary, output.parent)
    _save({"model": kept | fresh_denoising(cfg, report.missing)}, output)
    wrote = f"wrote {output} and {output.with_name('vocabulary.json')}"
    return ConversionOutcome((*lines, wrote))


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


def build_on_meta(cfg: DictConfig, vocabulary: Vocabulary) -> nn.Module:
    """The config's model without memory for its weights."""
    cfg = without_pretrained(with_vocabulary(cfg, vocabulary))
    with torch.device("meta"):
        return instantiate(cfg.model)


def check_relation(model: nn.Module, vocabulary: Vocabulary) -> list[str]:
    """What makes the config compute something else than the released code, though names fit."""
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
    _save(content, request.output)
    count = f"{len(vocabulary)} embeddings of {dim} numbers, with their ids"
    return ConversionOutcome((f"wrote {request.output}: {count}",))


def fresh_denoising(cfg: DictConfig, names: Iterable[str]) -> dict[str, Tensor]:
    """Initial values for the weights of the denoising group that no released file has."""
    torch.manual_seed(0)
    denoising = instantiate(cfg.model.denoising).state_dict(prefix="denoising.")
    return {name: denoising[name] for name in names}


def _save(content: dict[str, Any], path: Path) -> None:
    """Writes a file of tensors, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: torch.save(content, file))


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
