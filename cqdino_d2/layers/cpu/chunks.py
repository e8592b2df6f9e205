"""Large row-wise computations in pieces that stay in the caches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..feed_forward import FeedForward
from .forms import form_of

# 16 MiB in float32. The C library hands blocks over 32 MiB back to the system when they are freed;
# each new one is then slow to touch for the first time.
_CHUNK_ELEMENTS = 1 << 22


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """``function(x)``, on the CPU without gradients some rows at a time.

    Args:
        function: (..., C) -> (..., C'), each row for itself.
        x: (..., C).
        width: elements per row of the widest tensor that ``function`` makes.
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu" or torch.is_grad_enabled():
        return function(x)  # asked first: sizes may be symbols there
    rows = max(1, _CHUNK_ELEMENTS // width)
    if x.numel() <= rows * x.shape[-1]:
        return function(x)
    chunks = [function(part) for part in x.flatten(0, -2).split(rows)]
    return torch.cat(chunks).unflatten(0, x.shape[:-1])


@form_of(FeedForward)
class ChunkedFeedForward(FeedForward):
    """`FeedForward`, some rows at a time."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return in_chunks(super().forward, x, self.expand.out_features)
