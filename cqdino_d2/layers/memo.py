"""Remembers what follows from parameters alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class ParameterMemo:
    """Keeps a tensor that was computed from parameters until the content of one changes.

    It compares every number with a copy: neither version counters nor checksums are used, since
    writing through ``parameter.data`` leaves the former as they are, and different weights must
    never share a result. The price is that copy, and reading both (see docs/benchmarks.md).

    Where gradients are recorded nothing is kept. Copies and pickles of a memo are empty.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Frees what is kept; the next call computes anew."""
        self._seen: list[Tensor] = []
        self._conditions: tuple[Any, ...] = ()
        self._value: Tensor | None = None

    def get(
        self,
        parameters: Sequence[Tensor],
        compute: Callable[[], Tensor],
        source: Tensor | None = None,
    ) -> Tensor:
        """What ``compute`` returns, or returned when the parameters held the same numbers.

        Args:
            parameters: all that the result depends on.
            compute: makes the result.
            source: a further tensor that it depends on; only the same object counts as the same.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or parameters[0].is_meta:
            return compute()
        conditions = (autocast_dtype(parameters[0].device), source)
        if self._value is None or not self._is_as_seen(parameters, conditions):
            self.clear()
            self._value = compute()
            self._conditions = conditions
            self._seen = [p.detach().clone() for p in parameters]
        return self._value

    def _is_as_seen(self, parameters: Sequence[Tensor], conditions: tuple[Any, ...]) -> bool:
        dtype, source = conditions
        seen_dtype, seen_source = self._conditions
        if dtype is not seen_dtype or source is not seen_source:
            return False
        if len(parameters) != len(self._seen):
            return False
        pairs = list(zip(parameters, self._seen, strict=True))
        return all(_alike(p, seen) for p, seen in pairs) and all(
            torch.equal(p, seen) for p, seen in pairs
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"_seen": [], "_conditions": (), "_value": None}


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return (tensor.device, tensor.dtype, tensor.shape) == (other.device, other.dtype, other.shape)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast uses for a device now; None outside of it."""
    kind = device.type
    known = torch.amp.is_autocast_available(kind)  # not of the meta device
    return torch.get_autocast_dtype(kind) if known and torch.is_autocast_enabled(kind) else None
