"""Remembers what follows from parameters alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class ParameterMemo(Generic[T]):
    """Keeps what was computed from parameters until one of them changes.

    Where gradients are recorded nothing is kept. A change is seen by the parameters' version
    counters (optimizer steps, loading weights), by their place in memory (moving to another device
    or type) and by autocast; assignments through ``parameter.data`` are not, call `clear` there.
    Copies and pickles of a memo are empty.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Drops what is kept, so that the next call computes anew."""
        self._key: tuple[Any, ...] | None = None
        self.value: T | None = None

    def get(self, parameters: Sequence[Tensor], compute: Callable[[], T]) -> T:
        """What ``compute`` returns, or returned when the parameters were the same.

        Args:
            parameters: all that the result depends on.
            compute: makes the result.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return compute()
        key = tuple((p.data_ptr(), p._version, p.dtype, p.device) for p in parameters)
        key += (autocast_dtype(parameters[0].device),)
        if self._key is None or key != self._key:
            self.value = compute()
            self._key = key
        return self.value

    def __getstate__(self) -> dict[str, Any]:
        return {"_key": None, "value": None}


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast uses for a device now; None outside of it."""
    kind = device.type
    known = torch.amp.is_autocast_available(kind)  # not of the meta device
    return torch.get_autocast_dtype(kind) if known and torch.is_autocast_enabled(kind) else None
