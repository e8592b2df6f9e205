"""Things that are kept for clients for some time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by key; the oldest go beyond the limits. For one thread.

    Args:
        most: values.
        seconds: after which a value is forgotten.
        most_bytes: of all values together.
        clock: seconds that only increase.
    """

    def __init__(
        self,
        most: int,
        seconds: float,
        most_bytes: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self.seconds, self.most_bytes = most, seconds, most_bytes
        self._clock, self.num_bytes = clock, 0
        self._values: OrderedDict[str, tuple[float, int, T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: str, value: T, num_bytes: int = 0) -> None:
        """Keeps a value in place of an earlier one of its key."""
        self._drop(key)
        self._values[key] = (self._clock(), num_bytes, value)
        self.num_bytes += num_bytes
        while self._values and self._is_over():
            self._drop(next(iter(self._values)))

    def get(self, key: str) -> T | None:
        """The value of a key, None where it is not kept."""
        while self._values and self._is_over():
            self._drop(next(iter(self._values)))
        found = self._values.get(key)
        return None if found is None else found[2]

    def _is_over(self) -> bool:
        oldest = next(iter(self._values.values()))[0]
        too_old = oldest <= self._clock() - self.seconds
        return too_old or len(self._values) > self.most or self.num_bytes > self.most_bytes

    def _drop(self, key: str) -> None:
        if key in self._values:
            self.num_bytes -= self._values.pop(key)[1]
