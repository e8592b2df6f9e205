"""The order in which training meets its samples: a function of the seed alone.

The samples of all processes together form one stream, epoch after epoch. Global batch ``i`` is
``stream[i * total : (i + 1) * total]`` and process ``r`` of ``W`` takes the ``r``-th of its ``W``
equal parts. So the stream does not depend on the number of processes, and a resumed run continues
it where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from ..structures import RaggedIndex


def record_category_pairs(categories: RaggedIndex) -> np.ndarray:
    """(pairs, 2) record and vocab_id of what each record shows, each pair once, by record."""
    records = np.repeat(np.arange(len(categories)), np.diff(categories.offsets))
    width = int(categories.indices.max(initial=0)) + 1
    keys = np.unique(records * width + categories.indices)
    return np.stack([keys // width, keys % width], axis=1)


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


class SharesOrder:
    """As many samples as records; each set has its share of them, however large it is.

    A set's samples go through its records again and again, each time in another order, across the
    epochs: the records of a set are met equally often.

    Args:
        sizes: (S,) number of records of each set; the sets lie one after the other.
        shares: (S,) of an epoch, relative to each other.
        seed: decides all orders.

    Raises:
        ValueError: a share that is not positive, or so small that an epoch has no sample of it.
    """

    def __init__(self, *, sizes: Sequence[int], shares: Sequence[float], seed: int) -> None:
        self.sizes, self.seed = list(sizes), seed
        wanted = np.asarray(shares, np.float64)
        if not (np.isfinite(wanted) & (wanted > 0)).all():
            raise ValueError(f"shares must be positive, got {list(shares)}")
        exact = wanted / wanted.sum() * sum(self.sizes)
        self.counts = np.floor(exact).astype(np.int64)  # samples of an epoch
        left = sum(self.sizes) - int(self.counts.sum())
        self.counts[np.argsort(self.counts - exact, kind="stable")[:left]] += 1
        if (self.counts == 0).any():
            raise ValueError(
                f"of {sum(self.sizes)} samples of an epoch the shares {list(shares)} leave "
                f"{self.counts.tolist()} for the sets: too small a share"
            )

    def length(self, epoch: int) -> int:
        """Number of records of all sets, for every epoch."""
        return sum(self.sizes)

    def order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch, shuffled."""
        starts = np.cumsum([0, *self.sizes])
        parts = [
            starts[one] + self._of_set(one, epoch * count, (epoch + 1) * count)
            for one, count in enumerate(self.counts.tolist())
        ]
        return np.random.default_rng([self.seed, epoch]).permutation(np.concatenate(parts))

    def _of_set(self, one: int, first: int, last: int) -> np.ndarray:
        """The samples first..last-1 of all that a set ever gives."""
        size = self.sizes[one]
        passes = range(first // size, -(-last // size))
        orders = [
            np.random.default_rng([self.seed, one, number, 2]).permutation(size)
            for number in passes
        ]
        return np.concatenate(orders)[first - passes[0] * size :][: last - first]


class ClassAwareOrder:
    """As many samples as records; each category that has records is drawn equally often.

    A sample is a category, then one of the records that show it, at random. Records without boxes
    are never drawn.

    Args:
        categories: the vocab_ids of the boxes of each record.
        seed: decides all draws.

    Raises:
        ValueError: no record has a box.
    """

    def __init__(self, *, categories: RaggedIndex, seed: int) -> None:
        pairs = record_category_pairs(categories)
        self.size = len(categories)
        self.seed = seed
        self._records = pairs[np.argsort(pairs[:, 1], kind="stable"), 0]
        _, self._counts = np.unique(pairs[:, 1], return_counts=True)
        if not len(pairs):
            raise ValueError("class-aware sampling needs records with boxes")
        self._starts = np.cumsum(self._counts) - self._counts

    def length(self, epoch: int) -> int:
        """Number of records, for every epoch."""
        return self.size

    def order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch: rounds over all categories, each round shuffled."""
        rng = np.random.default_rng([self.seed, epoch])
        present = len(self._counts)
        rounds = [rng.permutation(present) for _ in range(-(-self.size // present))]
        drawn = np.concatenate(rounds)[: self.size]
        return self._records[self._starts[drawn] + rng.integers(0, self._counts[drawn])]


def repeat_factors(categories: RaggedIndex, threshold: float = 0.001) -> np.ndarray:
    """Repeat factors of LVIS: r(image) = max over its categories of max(1, sqrt(t / f(c))).

    Args:
        categories: the vocab_ids of the boxes of each record.
        threshold: t; categories in a smaller share f of the images are repeated.

    Returns:
        (records,) float64, at least 1.
    """
    records, vocab_ids = record_category_pairs(categories).T
    shares = np.bincount(vocab_ids) / max(len(categories), 1)
    factors = np.ones(len(categories))
    np.maximum.at(factors, records, np.sqrt(threshold / shares[vocab_ids]))
    return factors


def group_samples(samples: np.ndarray, groups: np.ndarray, *, first: int, batch: int) -> np.ndarray:
    """Reorders an epoch so that almost every batch is of one group.

    A batch comes where its last sample stood before. What is left of the groups at the end, less
    than a batch of each, comes last.

    Args:
        samples: (n,) record indices in their order.
        groups: (records,) the group of each record.
        first: position of the epoch in the stream; batches begin at multiples of ``batch``.
        batch: samples of a global batch.

    Returns:
        (n,) the same samples.
    """
    started = min(-first % batch, len(samples))  # these complete the batch of the epoch before
    rest = samples[started:]
    group_of = groups[rest]
    batches, leftovers = [], []
    for group in np.unique(group_of):
        places = np.flatnonzero(group_of == group)
        whole = len(places) // batch * batch
        batches += list(places[:whole].reshape(-1, batch))
        leftovers.append(places[whole:])
    batches.sort(key=lambda places: places[-1])
    return np.concatenate([samples[:started], *(rest[places] for places in batches + leftovers)])


class StreamBatchSampler(Sampler):
    """This process's share of the global batches, without end.

    Args:
        order: the epochs.
        total_batch_size: samples of a global batch, over all processes.
        rank: this process.
        world_size: number of processes.
        start_iter: the first global batch.
        groups: (records,) a number for each record: batches are made of one group, but for a few
            at the end of an epoch. None mixes all.

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
        groups: np.ndarray | None = None,
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
        self.groups = groups

    def _epoch(self, epoch: int, first: int) -> list[int]:
        samples = self.order.order(epoch)
        if self.groups is not None:
            samples = group_samples(samples, self.groups, first=first, batch=self.total_batch_size)
        return samples.tolist()

    def _stream(self, start: int) -> Iterator[tuple[int, int]]:
        """(position, record index) from a position of the stream on."""
        epoch, first = 0, 0  # the epoch and the position at which it begins
        while first + self.order.length(epoch) <= start:
            first += self.order.length(epoch)
            epoch += 1
        position = start
        while True:
            for record in self._epoch(epoch, first)[position - first :]:
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
