"""Reading and preparing lazy configs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import LazyCall, LazyConfig, instantiate
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from ..structures import Vocabulary, load_vocabulary
from .recipes import find_config

_TOP_LEVEL = ("model", "vocabulary", "dataloader", "optimizer", "lr_multiplier", "train")


def load_config(config_file: str | Path, overrides: Sequence[str] = ()) -> DictConfig:
    """Reads a lazy config and applies ``key=value`` overrides; ``~key`` deletes.

    A key that the config does not have is an error, unless it is an argument of a call (the
    call itself checks it then) or written as ``+key=value``.

    Raises:
        FileNotFoundError: no such config.
        ValueError: a part of the config is missing, or an override cannot be used.
    """
    cfg = LazyConfig.load(str(find_config(config_file)))
    if missing := [name for name in _TOP_LEVEL if name not in cfg]:
        raise ValueError(f"{config_file} is not a training config: it lacks {missing}")
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ValueError(f"cannot read the overrides {list(overrides)}: {error}") from error
    for override in parsed:
        if override.is_delete():
            _delete_key(cfg, override.key_or_group)
        elif not override.is_add():
            _check_key(cfg, override.key_or_group)
    assignments = [o.input_line.lstrip("+") for o in parsed if not o.is_delete()]
    return LazyConfig.apply_overrides(cfg, assignments)


def _delete_key(cfg: DictConfig, key: str) -> None:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig) or name not in node:
        raise ValueError(f"cannot delete {key}: the config has no such key")
    del node[name]


def _check_key(cfg: DictConfig, key: str) -> None:
    node: Any = cfg
    for depth, part in enumerate(key.split(".")):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
            continue
        known = list(node.keys()) if isinstance(node, DictConfig) else []
        if part not in known:
            if "_target_" in known:
                return
            where = ".".join(key.split(".")[:depth]) or "the config"
            near = difflib.get_close_matches(part, known, n=1)
            hint = f"did you mean {near[0]!r}" if near else f"it has {sorted(known)}"
            raise ValueError(f"cannot override {key}: {where} has no {part!r} ({hint})")
        node = node[part]


def use_saved_vocabulary(cfg: DictConfig, weights: str | Path) -> bool:
    """Takes the ``vocabulary.json`` that lies beside the weights, if there is one."""
    saved = Path(weights).with_name("vocabulary.json")
    if saved.is_file():
        cfg.vocabulary = LazyCall(load_vocabulary)(path=str(saved.resolve()))
    return saved.is_file()


def share_vocabulary(cfg: DictConfig) -> Vocabulary:
    """Makes the vocabulary once; every ``${vocabulary}`` in the config then means this one."""
    vocabulary = instantiate(cfg.vocabulary)

    def shared_vocabulary() -> Vocabulary:
        return vocabulary

    cfg.vocabulary = LazyCall(shared_vocabulary)()
    return vocabulary


def disable_pretrained(node: Any) -> None:
    """Switches every ``pretrained=True`` of a model's config off: its weights come from a file."""
    if isinstance(node, DictConfig):
        if node.get("pretrained") is True:
            node.pretrained = False
        children = [node[key] for key in node if OmegaConf.is_config(node[key])]
    else:
        children = [child for child in node if OmegaConf.is_config(child)]
    for child in children:
        disable_pretrained(child)


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
