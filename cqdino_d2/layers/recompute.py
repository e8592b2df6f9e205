"""Less memory in training: intermediate results that the backward pass computes again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

RECOMPUTATIONS = (None, "selective", "full")
# the operators that linear layers end in
_PRODUCTS = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.linear.default,
    torch.ops.mkldnn._linear_pointwise.default,
}


def check_recomputation(how: str | None) -> None:
    """Raises:
    ValueError: not one of `RECOMPUTATIONS`.
    """
    if how not in RECOMPUTATIONS:
        raise ValueError(f"recompute must be one of {list(RECOMPUTATIONS)}, got {how!r}")


def recomputing(function: Callable[..., Any], how: str | None) -> Callable[..., Any]:
    """The function as it is, or keeping less for the backward pass where gradients are recorded.

    Args:
        function: of tensors; it draws the same random numbers both times.
        how: "full" keeps only what goes in, "selective" also the results of linear layers, whose
            recomputation would cost most; None keeps all.
    """
    if how is None or not torch.is_grad_enabled():
        return function
    context = _keeping_products if how == "selective" else noop_context_fn

    def recomputed(*args: Any) -> Any:
        with _no_autocast_cache():
            return checkpoint(function, *args, use_reentrant=False, context_fn=context)

    return recomputed


@contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """Inside, weights are converted at every use, so that both passes do the same."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def _keeping_products() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return create_selective_checkpoint_contexts(_policy)


def _policy(_: Any, operator: Any, *__: Any, **___: Any) -> CheckpointPolicy:
    kept = operator in _PRODUCTS
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
