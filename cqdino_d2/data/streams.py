"""Samples of a training: which records become the sample at a position of the stream, and how."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from .mosaic import MOSAIC_IMAGES
from .seeding import seeded_generators

_LOGGER = logging.getLogger(__name__)
_ATTEMPTS = 100  # images in a row that cannot be read before a training ends

Mapper = Callable[..., dict[str, Any]]


class StreamDataset(Dataset):
    """Maps (position in the stream, record index); the randomness depends on (seed, position).

    Args:
        records: of a dataset.
        mapper: makes the detector's input of a record, or of several that share an image.
        seed: of the stream.
        mosaic: share of the samples that are made of four records.
        replace_unreadable: whether another record, drawn by (seed, position), takes the place of
            one whose image cannot be read. A warning names the file, once in each process.

    Raises:
        OSError: on use: an image that cannot be read, or 100 in a row, which means
            that the folder is wrong.
    """

    def __init__(
        self,
        records: Dataset,
        mapper: Mapper,
        seed: int,
        mosaic: float = 0.0,
        *,
        replace_unreadable: bool = False,
    ) -> None:
        self.records, self.mapper = records, mapper
        self.seed, self.mosaic = seed, mosaic
        self.replace_unreadable = replace_unreadable
        self._warned: set[str] = set()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        position, index = key
        if not self.replace_unreadable:
            return self._sample(index, [self.seed, position])
        problem: OSError | None = None
        for attempt in range(_ATTEMPTS):
            try:
                if not attempt:
                    return self._sample(index, [self.seed, position])
                return self._sample(None, [self.seed, position, attempt])
            except OSError as error:
                problem = error
                self._warn(str(error))
        raise OSError(f"{_ATTEMPTS} images in a row cannot be read; the last: {problem}")

    def _sample(self, index: int | None, key: list[int]) -> dict[str, Any]:
        """The sample of a record; of one that is drawn where none is given."""
        with seeded_generators(key):
            if index is None:
                index = int(np.random.randint(len(self)))  # noqa: NPY002
            if self.mosaic and np.random.random() < self.mosaic:  # noqa: NPY002
                others = np.random.randint(len(self), size=MOSAIC_IMAGES - 1)  # noqa: NPY002
                return self.mapper([self.records[i] for i in (index, *others.tolist())])
            return self.mapper(self.records[index])

    def _warn(self, problem: str) -> None:
        if problem not in self._warned:
            self._warned.add(problem)
            _LOGGER.warning("%s; another image takes its place", problem)
