"""What a training writes about itself, and what became different since it was last written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ...files import write_text
from ...structures import Vocabulary, load_vocabulary
from .lazy_config import plain_container

_LOGGER = logging.getLogger(__name__)
CONFIG_FILE = "config.yaml"
VOCABULARY_FILE = "vocabulary.json"
MACHINE_FILE = "machine.json"
# what a change of these keys means when a training is resumed
_REFUSED = ("optimizer._target_",)
_WITHOUT_EFFECT = ("train.init_checkpoint", "train.category_embeddings")
_ORDER_OF_IMAGES = ("dataloader.train.", "train.seed")
_PLACES = ("train.output_dir", "train.datasets_root", "train.device")


def write_record(
    folder: Path, cfg: DictConfig, vocabulary: Vocabulary, machine: Mapping[str, Any]
) -> None:
    """Writes the config, the vocabulary and the machine, each whole or not at all.

    Raises:
        OSError: the file cannot be written, e.g. the disk is full.
    """
    write_text(folder / CONFIG_FILE, _as_yaml(cfg))
    vocabulary.save(folder / VOCABULARY_FILE)
    write_text(folder / MACHINE_FILE, json.dumps(machine, indent=2) + "\n")


def check_same_vocabulary(folder: str | Path, vocabulary: Vocabulary) -> None:
    """Makes sure that the training in a folder had the same categories.

    Raises:
        ValueError: it had others.
    """
    path = Path(folder, VOCABULARY_FILE)
    if path.is_file() and load_vocabulary(path).dataset_ids != vocabulary.dataset_ids:
        raise ValueError(f"cannot resume: {path} has other categories than this config's dataset")


def report_changes(folder: str | Path, cfg: DictConfig) -> None:
    """Logs what a resumed training does otherwise than before, and what cannot be changed.

    Args:
        folder: of the training, with the ``config.yaml`` that ran last.
        cfg: the config to resume with.

    Raises:
        ValueError: a change with which the saved state has no meaning.
    """
    before = Path(folder, CONFIG_FILE)
    if not before.is_file():
        return
    try:
        present = OmegaConf.create(_as_yaml(cfg))
        changes = changed_settings(_flat(OmegaConf.load(before)), _flat(present))
    except (OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
        _LOGGER.warning("Cannot compare %s with the present config: %s", before, error)
        return
    for key, (old, new) in changes.items():
        change = f"{key}: {old!r} -> {new!r}"
        if key in _REFUSED:
            raise ValueError(f"cannot resume with another {change}: start a new training")
        if key in _WITHOUT_EFFECT:
            _LOGGER.warning("Without effect, the weights are the checkpoint's: %s", change)
        elif key.startswith(_ORDER_OF_IMAGES):
            _LOGGER.warning("Resuming with other training images or another order: %s", change)
        elif key not in _PLACES:
            _LOGGER.warning("Resuming with another setting: %s", change)


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (before, now) of what differs; None stands for a key that is not there."""
    keys = [*old, *(key for key in new if key not in old)]
    return {k: (old.get(k), new.get(k)) for k in keys if old.get(k) != new.get(k)}


def _as_yaml(cfg: DictConfig) -> str:
    """Plain values: classes in the config become calls that find them again."""
    content = plain_container(OmegaConf.to_container(cfg, resolve=False))
    return OmegaConf.to_yaml(OmegaConf.create(content))


def _flat(content: DictConfig) -> dict[str, Any]:
    """Dotted key -> value of what `_as_yaml` wrote; nothing in it is run."""
    return dict(_leaves(OmegaConf.to_container(content, resolve=False), ""))


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        yield prefix, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
