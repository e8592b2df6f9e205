"""Lazy configs: reading one, and copies with something settled. No config is edited in place."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import LazyCall, LazyConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from ...structures import Vocabulary, load_vocabulary
from .overrides import apply_overrides
from .recipes import find_config

_TOP_LEVEL = ("model", "vocabulary", "dataloader", "optimizer", "lr_multiplier", "train")


def load_config(config_file: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Reads a lazy config and applies overrides: see `apply_overrides`.

    Raises:
        FileNotFoundError: no such config.
        ValueError: the file cannot be read, a part of the config is missing, or an override cannot
            be used. What else the file raises as it runs goes through.
    """
    path = find_config(config_file)
    try:
        cfg = LazyConfig.load(str(path))
    except (SyntaxError, ImportError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise ValueError(f"{config_file} cannot be read: {reason}") from error
    if missing := [name for name in _TOP_LEVEL if name not in cfg]:
        raise ValueError(f"{config_file} is not a training config: it lacks {missing}")
    cfg = apply_overrides(cfg, overrides)
    for name in _TOP_LEVEL:
        if isinstance(cfg.get(name), (type(None), str, int, float, ListConfig)):
            raise ValueError(f"{name} must be a group of settings, got {cfg[name]!r}")
    return cfg


def reads_words(cfg: DictConfig) -> bool:
    """Whether the model of a config is prompted with words."""
    return "tokenizer" in (cfg.model.get("categories") or {})


def with_saved_vocabulary(cfg: DictConfig, weights: str | Path) -> DictConfig:
    """The config with the ``vocabulary.json`` next to the weights, if there is one."""
    cfg, saved = copy.deepcopy(cfg), saved_vocabulary(weights)
    if saved is not None:
        cfg.vocabulary = LazyCall(load_vocabulary)(path=str(saved.resolve()))
    return cfg


def saved_vocabulary(weights: str | Path) -> Path | None:
    """The path of the ``vocabulary.json`` next to the weights; an empty string if none."""
    path = Path(weights).with_name("vocabulary.json") if str(weights) else None
    return path if path is not None and path.is_file() else None


def with_vocabulary(cfg: DictConfig, vocabulary: Vocabulary) -> DictConfig:
    """The config in which every ``${vocabulary}`` means this one, which is read no second time."""

    def shared_vocabulary() -> Vocabulary:
        return vocabulary

    cfg = copy.deepcopy(cfg)
    cfg.vocabulary = LazyCall(shared_vocabulary)()
    return cfg


def without_pretrained(cfg: DictConfig) -> DictConfig:
    """The config whose model starts from no published weights: it gets its own from a file.

    Every ``pretrained=True`` is off, and below ``model.backbone`` names of weight files as well;
    elsewhere they belong to parts that no model file holds, such as a teacher.
    """
    cfg = copy.deepcopy(cfg)
    nodes = [(cfg.model, False)]
    while nodes:
        node, in_backbone = nodes.pop()
        is_dict = isinstance(node, DictConfig)
        if is_dict and (node.get("pretrained") is True or (in_backbone and "pretrained" in node)):
            node.pretrained = False
        for key in node if is_dict else range(len(node)):
            if OmegaConf.is_config(node[key]):
                nodes.append((node[key], in_backbone or key == "backbone"))
    return cfg


def plain_container(node: Any) -> Any:
    """A config node as plain dicts, lists, strings and numbers, with nothing left to look up.

    Call targets become dotted names; classes and functions that are values become calls that
    find them again, so that the result survives YAML.
    """
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=True)
    if isinstance(node, Mapping):
        return {
            key: dotted_name(value)
            if key == "_target_" and callable(value)
            else plain_container(value)
            for key, value in node.items()
        }
    if isinstance(node, (list, tuple)):
        return [plain_container(item) for item in node]
    if callable(node):
        return {"_target_": "pydoc.locate", "path": dotted_name(node)}
    return node


def dotted_name(target: Any) -> str:
    """Where a class or function can be imported from.

    Raises:
        ValueError: it cannot be, for example a lambda.
    """
    name = f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', '?')}"
    if "<" in name or "?" in name:
        raise ValueError(f"{target} in the config has no name to import it by")
    return name
