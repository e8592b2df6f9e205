"""Converts a released CQ-DINO checkpoint (mmengine's form) for Detectron2.

Examples:
    python projects_tools/convert_checkpoint.py cqdino_swinb22k_v3det.pth \
        --config-file configs/v3det/cqdino_tree_swinb22k.py --category-tree v3det_tree.csv \
        --category-embeddings v3det_clip_embeddings.pth --output models/swinb22k/model.pth
    python projects_tools/convert_checkpoint.py v3det_clip_embeddings.pth \
        --config-file configs/v3det/cqdino_tree_swinb22k.py --output v3det_embeddings.pth

The input is read without running code from it. Writes the checkpoint and, beside it, the
vocabulary.json that evaluation and prediction take the categories and their tree from; reports what
became of every name. Exit code 1 (and nothing written) if something is left unexplained, 2 for
input that cannot be used. An embedding file as input is written with the ids of the categories.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from cqdino_d2.annotations import vocabulary_from_annotations, vocabulary_from_tree
from cqdino_d2.categories import CategorySelfAttention, LengthOneSelfAttention, TreeAggregation
from cqdino_d2.checkpoint import (
    ConversionReport,
    convert_released_weights,
    read_mmengine_file,
    weights_of,
)
from cqdino_d2.data import load_category_embeddings, register_all
from cqdino_d2.engine import load_config
from cqdino_d2.engine.config import with_vocabulary, without_pretrained
from cqdino_d2.files import write_atomically
from cqdino_d2.structures import Vocabulary, load_vocabulary

UNEXPLAINED, BAD_INPUT = 1, 2


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT.pth", help="released checkpoint, or embedding file")
    add("--config-file", required=True, type=Path, metavar="FILE", help="the recipe it belongs to")
    add("--output", required=True, type=Path, metavar="OUT.pth", help="file to write")
    add(
        "--category-tree",
        type=Path,
        metavar="TREE",
        help="the released table (.csv) or V3Det's tree JSON: categories and tree come from there",
    )
    add(
        "--annotations",
        type=Path,
        metavar="GT.json",
        help="any annotation file of the data set: the categories come from there "
        "(default: the config's data set under $DETECTRON2_DATASETS)",
    )
    add(
        "--category-embeddings",
        type=Path,
        metavar="EMB.pth",
        help="released embedding file; checks that its categories are the vocabulary's",
    )
    add(
        "--patch-merging",
        choices=("microsoft", "mmdet"),
        default="microsoft",
        help="channel order of the backbone's patch merging: the released checkpoints have "
        "Microsoft's (default), mmdetection's own Swin weights another",
    )
    add("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    return parser.parse_intermixed_args(arguments)


def choose_vocabulary(cfg: DictConfig, args: argparse.Namespace) -> Vocabulary:
    """The categories by the most direct source that is named; the config's own otherwise."""
    if args.annotations is not None:
        return vocabulary_from_annotations(args.annotations, args.category_tree)
    if args.category_tree is not None:
        return vocabulary_from_tree(args.category_tree)
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


def check_embedding_file(args: argparse.Namespace, cfg: DictConfig, vocabulary: Vocabulary) -> None:
    """Raises ValueError if the embedding file is of other categories."""
    if args.category_embeddings is not None:
        load_category_embeddings(args.category_embeddings, vocabulary, cfg.model.categories.dim)


def convert_embeddings(args: argparse.Namespace, cfg: DictConfig, vocabulary: Vocabulary) -> int:
    """Writes an embedding file with ids."""
    dim = cfg.model.categories.dim
    content = {
        "embeddings": load_category_embeddings(args.input, vocabulary, dim),
        "categories": list(vocabulary.names),
        "ids": list(vocabulary.dataset_ids),
    }
    save(content, args.output)
    print(f"wrote {args.output}: {len(vocabulary)} embeddings of {dim} numbers, with their ids")
    return 0


def fresh_denoising(cfg: DictConfig, names: Iterable[str]) -> dict[str, Tensor]:
    """Initial values for the weights of the denoising group that no released file has."""
    torch.manual_seed(0)
    denoising = instantiate(cfg.model.denoising).state_dict(prefix="denoising.")
    return {name: denoising[name] for name in names}


def save(content: dict[str, Any], path: Path) -> None:
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


def convert(args: argparse.Namespace) -> int:
    """Does the work; returns the exit code."""
    content = read_mmengine_file(args.input)
    cfg = load_config(args.config_file, args.overrides)
    vocabulary = choose_vocabulary(cfg, args)
    if "embeddings" in content and "categories" in content:
        return convert_embeddings(args, cfg, vocabulary)
    check_embedding_file(args, cfg, vocabulary)
    model = build_on_meta(cfg, vocabulary)
    conversion = convert_released_weights(
        weights_of(content, args.input), patch_merging=args.patch_merging
    )
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    report = ConversionReport.compare(conversion, expected)
    print("\n".join(report.lines()))
    print(f"order of the patch merging's channels: {args.patch_merging}")
    problems = check_relation(model, vocabulary)
    if not report.complete:
        problems.append(f"{args.input} does not fit {args.config_file} (see above)")
    if problems:
        print("\n".join(f"NOT CONVERTED: {problem}" for problem in problems), file=sys.stderr)
        return UNEXPLAINED
    weights = {name: conversion.weights[name] for name in report.converted.values()}
    save_vocabulary(vocabulary, args.output.parent)
    save({"model": weights | fresh_denoising(cfg, report.missing)}, args.output)
    print(f"wrote {args.output} and {args.output.with_name('vocabulary.json')}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Turns errors in what the user gave into one line and exit code 2."""
    args = parse_arguments(arguments)
    try:
        return convert(args)
    except (ValueError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
