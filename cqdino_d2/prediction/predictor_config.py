"""A config for `CategoryPredictor` and for Detectron2's own `DefaultPredictor`."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode, LazyCall, get_cfg, instantiate
from detectron2.data import transforms as T
from omegaconf import DictConfig

from ..data import ResizeShortestEdgeTruncated
from ..engine import checkpointer
from ..engine.config import (
    dotted_name,
    load_config,
    plain_container,
    reads_words,
    with_saved_vocabulary,
    with_vocabulary,
    without_pretrained,
)
from ..engine.placement import choose_device
from ..files.weights_file import read_weights
from ..structures import Vocabulary, flat_vocabulary
from ..text import vocabulary_prompt, wanted_prompts
from .metadata import register_metadata, with_metadata


def get_predictor_cfg(
    config_file: str | Path,
    *,
    weights: str | Path,
    overrides: Sequence[str] = (),
    device: str | None = None,
    prompt: str | Sequence[str] | None = None,
    check_weights: bool = True,
) -> CfgNode:
    """Turns a lazy config into what our predictors and Detectron2's `DefaultPredictor` take.

    The former resize images as the test mapper does, the latter by a rule of its own, which can
    differ by a pixel: see `build_augmentations`.

    If ``vocabulary.json`` lies beside the weights (a training writes it), the vocabulary comes
    from there and the dataset is not needed.

    Args:
        config_file: a file of ``configs/``, or the ``config.yaml`` of a training.
        weights: a checkpoint, best a training's ``model_inference.pth`` (the averaged weights
            where it averaged); an empty string predicts with random weights. `CategoryPredictor`
            reads it as it is checked here, `DefaultPredictor` by a loader of its own, which knows
            weights at the top of a file or under ``model`` alone and runs what a pickle says.
        overrides: ``key=value`` for the lazy config.
        device: ``cpu``, ``cuda``, ...; by default CUDA where there is a GPU.
        prompt: a caption or names, what a model that reads words looks for by default;
            `DefaultPredictor` has no other way to set it.
        check_weights: reads them to see whether they fit, as our predictors do when they load them.

    Raises:
        FileNotFoundError: the config, the weights or the dataset's files are missing.
        ValueError: an unusable override, weights of another config or with NaN (the keys are
            named), or a prompt for a model that reads none.
    """
    if weights and not Path(weights).is_file():
        raise FileNotFoundError(f"there is no checkpoint {weights}")
    lazy = without_pretrained(load_config(config_file, overrides))
    lazy = _with_prompt(lazy, prompt) if reads_words(lazy) else _with_categories(lazy, weights)
    if prompt and not reads_words(lazy):
        raise ValueError(f"the model of {config_file} reads no words: got the prompt {prompt!r}")
    lazy.vocabulary = LazyCall(with_metadata)(vocabulary=lazy.vocabulary)
    vocabulary, model = instantiate(lazy.vocabulary), plain_container(lazy.model)
    if weights and check_weights:
        _check_weights(with_vocabulary(lazy, vocabulary).model, weights)
    short, longest = _test_size(lazy)
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = model["_target_"].rsplit(".", 1)[-1]
    nodes = {
        "LAZY_CONFIG": model,
        "VOCABULARY": plain_container(lazy.vocabulary),
        "AUGMENTATIONS": plain_container(_test_augmentations(lazy)),
    }
    cfg.MODEL.CQDINO = CfgNode({k: yaml.safe_dump(v, sort_keys=False) for k, v in nodes.items()})
    cfg.MODEL.WEIGHTS = str(weights)
    cfg.MODEL.DEVICE = str(choose_device(device or "auto"))
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TEST = short
    cfg.INPUT.MAX_SIZE_TEST = longest
    cfg.DATASETS.TEST = (register_metadata(vocabulary),)
    return cfg


def _with_categories(lazy: DictConfig, weights: str | Path) -> DictConfig:
    """The config with the vocabulary beside the weights, or that of its dataset."""
    lazy = with_saved_vocabulary(lazy, weights)
    if _reads_a_dataset(lazy.vocabulary):
        from ..data import register_all

        register_all(lazy.train.get("datasets_root"))
    return lazy


def _with_prompt(lazy: DictConfig, prompt: str | Sequence[str] | None) -> DictConfig:
    """The config whose vocabulary is what a prompt says, "text" where there is none."""
    lazy = copy.deepcopy(lazy)
    if prompt is None:
        lazy.vocabulary = LazyCall(flat_vocabulary)(names=["text"])
        lazy.model.prompt = None
        return lazy
    listed = isinstance(prompt, Sequence) and all(isinstance(name, str) for name in prompt)
    if not listed:
        raise ValueError(
            "the prompt of a config is a caption or names (`TextPredictor.ask` takes synonyms and "
            f"spans, too), got {prompt!r}"
        )
    wanted = wanted_prompts(prompt, instantiate(lazy.model.categories.tokenizer))
    # as YAML some names would be numbers or references; "$" is escaped as JSON does it
    said = json.dumps(wanted.names).replace("$", "\\u0024")
    lazy.vocabulary = LazyCall(vocabulary_of_json)(names=said)
    lazy.model.prompt = LazyCall(vocabulary_prompt)(vocabulary="${vocabulary}")
    return lazy


def vocabulary_of_json(names: str) -> Vocabulary:
    """A `flat_vocabulary` of a JSON list of names."""
    return flat_vocabulary(json.loads(names))


def _check_weights(model: DictConfig, weights: str | Path) -> None:
    """Makes sure that a file holds exactly a model's weights, without memory for the model's."""
    try:
        with torch.device("meta"):
            empty = instantiate(model)
    except RuntimeError:  # a part of one's own that looks at numbers when it is made
        empty = instantiate(model)
    found = read_weights(weights, mapped=True)
    checkpointer.check_weights(found, empty, weights, strict=True)


def _reads_a_dataset(node: DictConfig) -> bool:
    target = node["_target_"]
    name = target if isinstance(target, str) else dotted_name(target)
    return name.startswith("cqdino_d2.data.")


def _test_augmentations(lazy: DictConfig) -> list[DictConfig]:
    mapper = lazy.dataloader.test.get("mapper")
    return list((mapper.get("augmentations") if mapper else None) or [])


def build_augmentations(cfg: CfgNode) -> T.AugmentationList:
    """What the test mapper does to an image, by the sizes of ``cfg.INPUT``.

    The recipes resize by `ResizeShortestEdgeTruncated`, as the released models were tested.
    `DefaultPredictor` cannot be told so: it makes a ``ResizeShortestEdge`` of ``cfg.INPUT``
    itself, which rounds (1067 x 800 for 640 x 480 at 800/1333, where the mapper has 1066) and
    leaves nothing of the short side of a very thin image, which then cannot be predicted.

    Args:
        cfg: from `get_predictor_cfg`; ``INPUT.MIN_SIZE_TEST`` and ``MAX_SIZE_TEST`` may have been
            changed since, a MIN_SIZE_TEST of 0 keeps images as they are.
    """
    sizes = {"short_edge_length": cfg.INPUT.MIN_SIZE_TEST, "max_size": cfg.INPUT.MAX_SIZE_TEST}
    nodes = yaml.safe_load(cfg.MODEL.CQDINO.AUGMENTATIONS)
    if not any("short_edge_length" in node for node in nodes):
        nodes.append({"_target_": dotted_name(ResizeShortestEdgeTruncated), **sizes})
    if not cfg.INPUT.MIN_SIZE_TEST:
        nodes = [node for node in nodes if "short_edge_length" not in node]
    nodes = [node | sizes if "short_edge_length" in node else node for node in nodes]
    return T.AugmentationList([instantiate(DictConfig(node)) for node in nodes])


def _test_size(lazy: DictConfig) -> tuple[int, int]:
    """Short and long side from the test mapper's resizing; (0, 0) keeps images as they are.

    Raises:
        ValueError: a range or choice of sizes; a predictor needs a single one.
    """
    for node in _test_augmentations(lazy):
        if "short_edge_length" in node:
            lengths = node.short_edge_length
            sizes = {lengths} if isinstance(lengths, int) else set(lengths)
            if len(sizes) != 1:
                raise ValueError(f"the test images need one short_edge_length, got {lengths}")
            return sizes.pop(), node.get("max_size", 2**31 - 1)
    return 0, 0
