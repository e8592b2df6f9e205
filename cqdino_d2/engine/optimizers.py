"""The optimizer over a model's parameters."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
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
            that a training can be resumed with another number of processes.
    """
    kind, options = _call_of(node, without="params")
    make_groups, arguments = _call_of(node.params, without="model")
    groups = make_groups(model=model, **arguments)
    if not sharded or comm.get_world_size() == 1:
        return kind(groups, **options)
    from torch.distributed.optim import ZeroRedundancyOptimizer

    return ZeroRedundancyOptimizer(groups, optimizer_class=kind, **options)


def _call_of(node: DictConfig, *, without: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What a node calls, and with which arguments."""
    target = node["_target_"]
    arguments = {key: _plain(node[key]) for key in node if key not in ("_target_", without)}
    return locate(target) if isinstance(target, str) else target, arguments


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, ListConfig) else instantiate(value)


def with_scaled_rate(cfg: DictConfig) -> DictConfig:
    """The config with the learning rate for the number of images per step.

    ``optimizer.lr`` is meant for ``train.base_batch_size`` images; with others it is multiplied
    by total_batch_size / base_batch_size (the linear rule, arXiv 1706.02677). None leaves it.

    Raises:
        ValueError: a base that is not positive, a rate that is no number of at least 0.
    """
    given, base = cfg.optimizer.get("lr"), cfg.train.base_batch_size
    if "lr" not in cfg.optimizer:
        return cfg
    if not _is_number(given) or not 0 <= given < math.inf:
        raise ValueError(f"optimizer.lr must be a number of at least 0, got {given!r}")
    if base is None:
        return cfg
    if not _is_number(base) or base <= 0:
        raise ValueError(f"train.base_batch_size must be positive, got {base!r}")
    total = cfg.dataloader.train.total_batch_size
    scaled = copy.deepcopy(cfg)
    scaled.optimizer.lr = rate = given * total / base
    _LOGGER.info(
        "Learning rate %g: %g for %s images, times %d / %s", rate, given, base, total, base
    )
    return scaled


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def load_moments(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Loads what an optimizer has seen; rates, decays and other options stay those it has.

    A resumed training so runs with what its config says now.

    Args:
        optimizer: as `build_optimizer` makes it, which names its groups.
        state: of an optimizer over the same parameters.

    Raises:
        ValueError: other groups of parameters.
    """
    saved = [group.get("name") for group in state["param_groups"]]
    own = [group.get("name") for group in optimizer.param_groups]
    if saved != own:
        raise ValueError(
            f"the saved optimizer has the parameter groups {saved}, this config makes {own}"
        )
    options = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, given in zip(optimizer.param_groups, options, strict=True):
        group.update(given)
        group["initial_lr"] = group["lr"]  # what the schedule multiplies
