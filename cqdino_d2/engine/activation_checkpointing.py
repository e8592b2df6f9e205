"""Less memory for more time: blocks that are computed again in the backward pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_LOGGER = logging.getLogger(__name__)


def checkpoint_blocks(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Makes blocks keep only their inputs in training; gradients and weights' names stay.

    Dropout draws the same numbers in both passes, and batch norms count a batch once.

    Args:
        model: is changed in place.
        patterns: dotted module names in which ``*`` stands for (a piece of) one part of the
            name, e.g. ``encoder.image_layers.*``.

    Returns:
        The names of the blocks.

    Raises:
        ValueError: a pattern that fits no module.
    """
    modules = dict(model.named_modules())
    names: list[str] = []
    for pattern in patterns:
        fitting = [name for name in modules if _fits(name, pattern)]
        if not fitting:
            lists = sorted(n for n, m in modules.items() if isinstance(m, nn.ModuleList))
            raise ValueError(
                f"no module fits {pattern!r} of train.activation_checkpointing; the model's parts "
                f"are {[n for n, _ in model.named_children()]}, its lists of modules {lists}"
            )
        names += [name for name in fitting if name not in names]
    for name in names:
        _checkpoint(modules[name])
    if names:
        _LOGGER.info("%d blocks are computed again in the backward pass", len(names))
    return names


def _fits(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _checkpoint(block: nn.Module) -> None:
    forward = block.forward
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    options: dict[str, Any] = {"use_reentrant": False}
    if norms:
        options["context_fn"] = partial(_count_batch_once, norms)

    def recomputed(*args: Any, **kwargs: Any) -> Any:
        if block.training and torch.is_grad_enabled():
            return checkpoint(forward, *args, **options, **kwargs)
        return forward(*args, **kwargs)

    block.forward: Callable[..., Any] = recomputed


def _count_batch_once(
    norms: Sequence[nn.Module],
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the forward pass and of the second computation."""
    return nullcontext(), _unchanged_buffers(norms)


@contextmanager
def _unchanged_buffers(norms: Sequence[nn.Module]) -> Iterator[None]:
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for now, kept in zip(buffers, before, strict=True):
            now.copy_(kept)
