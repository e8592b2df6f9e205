"""The optimizer over a model's parameters."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.utils import comm
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig
from torch import nn

_LOGGER = logging.getLogger(__name__)


def build_optimizer(
    node: DictConfig, model: nn.Module, *, sharded: bool = False
) -> torch.optim.Optimizer:
    """Makes the optimizer over a model; its options are plain values, as checkpoints need them.

    Args:
        node: the config's ``optimizer``.
        model: not wrapped for several processes.
        sharded: each process keeps the optimizer's state for a share of the parameters only and
            sends the others what it updated (ZeRO stage 1, arXiv 1910.02054). One process keeps
            everything. The results and the checkpoints are those of the plain optimizer, so
            that a training can go on with another number of processes.
    """
    node.params.model = model
    kind = node["_target_"]
    kind = locate(kind) if isinstance(kind, str) else kind
    options = {key: _plain(node[key]) for key in node if key not in ("_target_", "params")}
    groups = instantiate(node.params)
    if not sharded or comm.get_world_size() == 1:
        return kind(groups, **options)
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return ZeroRedundancyOptimizer(groups, optimizer_class=kind, **options)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, ListConfig) else instantiate(value)


def scale_learning_rate(cfg: DictConfig) -> None:
    """Takes ``optimizer.lr`` as meant for ``train.base_batch_size`` images per step.

    With other batches it is multiplied by total_batch_size / base_batch_size (the linear rule,
    arXiv 1706.02677). None leaves it.

    Raises:
        ValueError: a base that is not positive.
    """
    base, total = cfg.train.base_batch_size, cfg.dataloader.train.total_batch_size
    if base is None:
        return
    if base <= 0:
        raise ValueError(f"train.base_batch_size must be positive, got {base}")
    given = cfg.optimizer.lr
    cfg.optimizer.lr = given * total / base
    _LOGGER.info(
        "Learning rate %g: %g for %s images, times %d / %s",
        cfg.optimizer.lr,
        given,
        base,
        total,
        base,
    )
