"""From a config as it was written to one in which nothing is open."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf

from ...structures import Vocabulary
from ..optimizers import with_scaled_rate
from .lazy_config import with_saved_vocabulary, with_vocabulary, without_pretrained
from .lengths import with_lengths

# settings that are whole numbers, and the least they may be
_LEAST = {
    "dataloader.train.total_batch_size": 1,
    "train.accumulate": 1,
    "train.checkpointer.period": 1,
    "train.eval_period": 0,
    "train.log_period": 1,
    "train.log_window": 1,
    "train.max_iter": 1,
    "train.seed": 0,
}
_MOST = 2**63 - 1


@dataclass(frozen=True)
class SettledTraining:
    """What a training is built from.

    Attributes:
        cfg: a copy of the config as it runs: one vocabulary, the learning rate of the batch,
            lengths in iterations.
        vocabulary: of the dataset.
        loader: the batches from the first iteration of this run on.
        start_iter: that iteration.
    """

    cfg: DictConfig
    vocabulary: Vocabulary
    loader: Iterable[list[dict[str, Any]]]
    start_iter: int


def settle_training(cfg: DictConfig, *, start_iter: int | None) -> SettledTraining:
    """Settles everything that a training's config leaves open, in this order.

    Args:
        cfg: the whole config; it stays as it is.
        start_iter: the iteration to resume at; None for a new training.

    Raises:
        ValueError: a setting that cannot be used.
        FileNotFoundError: a file of the dataset is missing.
    """
    vocabulary = instantiate(cfg.vocabulary)
    cfg = with_vocabulary(cfg, vocabulary)
    if start_iter is not None:  # the checkpoint holds all weights
        cfg = without_pretrained(cfg)
    cfg = with_scaled_rate(cfg)
    cfg = with_start_iter(cfg, start_iter or 0)
    _check_numbers(cfg, ["dataloader.train.total_batch_size", "train.seed"])
    loader = instantiate(cfg.dataloader.train)
    cfg = with_lengths(cfg, loader)
    _check_numbers(cfg, _LEAST)
    return SettledTraining(cfg, vocabulary, loader, start_iter or 0)


def settle_evaluation(cfg: DictConfig, weights: str) -> DictConfig:
    """A copy of the config for weights that exist: their vocabulary, nothing pretrained.

    Args:
        cfg: the whole config; it stays as it is.
        weights: the vocabulary next to them takes precedence over that of the dataset.

    Raises:
        ValueError: a vocabulary that cannot be read.
        FileNotFoundError: a file of the dataset is missing.
    """
    cfg = without_pretrained(with_saved_vocabulary(cfg, weights))
    return with_vocabulary(cfg, instantiate(cfg.vocabulary))


def with_start_iter(cfg: DictConfig, start_iter: int) -> DictConfig:
    """The config whose training loader begins with this iteration."""
    cfg = copy.deepcopy(cfg)
    cfg.dataloader.train.start_iter = start_iter
    return cfg


def _check_numbers(cfg: DictConfig, keys: Iterable[str]) -> None:
    for key in keys:
        value = OmegaConf.select(cfg, key)
        if type(value) is not int or not _LEAST[key] <= value <= _MOST:
            bound = "at most 2^63 - 1" if type(value) is int and value > 0 else ""
            bound = bound or f"at least {_LEAST[key]}"
            raise ValueError(f"{key} must be a whole number of {bound}, got {value!r}")
