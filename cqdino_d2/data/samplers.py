"""The order in which training meets its samples: a function of the seed alone.

The samples of all processes together form one stream, epoch after epoch. Global batch ``i`` is
``stream[i * total : (i + 1) * total]`` and process ``r`` of ``W`` takes the ``r``-th of its ``W``
equal parts. So the stream does not depend on the number of processes, and a resumed run continues
it where it stopped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Sampler


class EpochOrder(Protocol):
    """What one epoch consists of."""

    def length(self, epoch: int) -> int:
        """Number of samples of an epoch, at least 1."""

    def order(self, epoch: int) -> np.ndarray:
        """(length,) int64 record indices of an epoch, in their order."""


class UniformOrder:
    """Every record once per epoch.

    Args:
        size: number of records.
        seed: decides the permutations.
    """

    def __init__(self, *, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed

    def length(self, epoch: int) -> int:
        """Number of records, for every epoch."""
        return self.size

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of an epoch."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.size)


class RepeatFactorOrder:
    """Records of rare categories several times per epoch (LVIS, arXiv 1908.03195).

    Args:
        repeat_factors: (records,) expected repeats per epoch, each at least 1; the fractional
            part is rounded at random per epoch.
        seed: decides rounding and permutations.
    """

    def __init__(self, *, repeat_factors: np.ndarray, seed: int) -> None:
        self.repeat_factors = np.asarray(repeat_factors, dtype=np.float64)
        self.seed = seed
        self._lengths: dict[int, int] = {}

    def _repeats(self, epoch: int) -> np.ndarray:
        drawn = np.random.default_rng([self.seed, epoch, 1]).random(len(self.repeat_factors))
        whole = np.floor(self.repeat_factors)
        return (whole + (drawn < self.repeat_factors - whole)).astype(np.int64)

    def length(self, epoch: int) -> int:
        """Number of samples of an epoch after rounding."""
        if epoch not in self._lengths:
            self._lengths[epoch] = int(self._repeats(epoch).sum())
        return self._lengths[epoch]

    def order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch, shuffled."""
        samples = np.repeat(np.arange(len(self.repeat_factors)), self._repeats(epoch))
        return np.random.default_rng([self.seed, epoch]).permutation(samples)


def repeat_factors(records: Sequence[Mapping[str, Any]], threshold: float = 0.001) -> np.ndarray:
    """Repeat factors of LVIS: r(image) = max over its categories of max(1, sqrt(t / f(c))).

    Args:
        records: with 'annotations', each with a 'category_id'.
        threshold: t; categories in a smaller share f of the images are repeated.

    Returns:
        (records,) float64, at least 1.
    """
    present = [{a["category_id"] for a in record.get("annotations", ())} for record in records]
    image_counts = Counter(category for categories in present for category in categories)
    factor = {
        category: max(1.0, math.sqrt(threshold * len(records) / count))
        for category, count in image_counts.items()
    }
    return np.asarray([max((factor[c] for c in row), default=1.0) for row in present])


class StreamBatchSampler(Sampler):
    """This process's share of the global batches, without end.

    Args:
        order: the epochs.
        total_batch_size: samples of a global batch, over all processes.
        rank: this process.
        world_size: number of processes.
        start_iter: the first global batch.

    Raises:
        ValueError: a batch size that the processes cannot share evenly, or nothing to sample.
    """

    def __init__(
        self,
        *,
        order: EpochOrder,
        total_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        start_iter: int = 0,
    ) -> None:
        if total_batch_size < 1 or total_batch_size % world_size:
            raise ValueError(
                f"the total batch size must be a positive multiple of the number of processes, got "
                f"{total_batch_size} for {world_size}"
            )
        if start_iter < 0:
            raise ValueError(f"start_iter cannot be negative, got {start_iter}")
        if order.length(0) < 1:
            raise ValueError("there is no sample to draw from")
        self.order = order
        self.total_batch_size = total_batch_size
        self.rank = rank
        self.world_size = world_size
        self.start_iter = start_iter

    def _stream(self, start: int) -> Iterator[tuple[int, int]]:
        """(position, record index) from a position of the stream on."""
        epoch, first = 0, 0  # the epoch and the position at which it begins
        while first + self.order.length(epoch) <= start:
            first += self.order.length(epoch)
            epoch += 1
        position = start
        while True:
            for record in self.order.order(epoch)[position - first :].tolist():
                yield position, record
                position += 1
            first = position
            epoch += 1

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Batches of (position in the stream, record index)."""
        share = self.total_batch_size // self.world_size
        stream = self._stream(self.start_iter * self.total_batch_size)
        while True:
            batch = [next(stream) for _ in range(self.total_batch_size)]
            yield batch[self.rank * share : (self.rank + 1) * share]
