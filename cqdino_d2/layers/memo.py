"""Remembers what follows from parameters alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class ParameterMemo:
    """Keeps a tensor that was computed from parameters until one of them changes.

    Where gradients are recorded nothing is kept. A change is seen by the parameters' version
    counters (optimizer steps, loading weights), by their place in memory (moving to another device
    or type) and by autocast; assignments through ``parameter.data`` are not, call `clear` there.
    Copies and pickles of a memo are empty.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets."""
        self._key: tuple[Any, ...] | None = None
        self._value: Tensor | None = None

    def get(
        self,
        parameters: Sequence[Tensor],
        compute: Callable[[], Tensor],
        source: Tensor | None = None,
    ) -> Tensor:
        """What ``compute`` returns, or returned when the parameters were the same.

        Args:
            parameters: all that the result depends on.
            compute: makes the result.
            source: a further tensor that it depends on; only the same object counts as the same.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return compute()
        key = tuple((p.data_ptr(), p._version, p.dtype, p.device) for p in parameters)
        key += (autocast_dtype(parameters[0].device), source)
        if self._key is None or not _same(key, self._key):
            self._value = compute()
            self._key = key
        return self._value

    def __getstate__(self) -> dict[str, Any]:
        return {"_key": None, "_value": None}


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast uses for a device now; None outside of it."""
    kind = device.type
    known = torch.amp.is_autocast_available(kind)  # not of the meta device
    return torch.get_autocast_dtype(kind) if known and torch.is_autocast_enabled(kind) else None


def _same(key: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return key[:-1] == other[:-1] and key[-1] is other[-1]
