"""How long things take: iterations, or epochs of the dataset."""

from __future__ import annotations

import copy
import logging
import math
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

from omegaconf import DictConfig, OmegaConf

_LOGGER = logging.getLogger(__name__)
_EPOCHS = re.compile(r"(\d+(?:\.\d+)?)ep")
LENGTHS = (
    "train.max_iter",
    "train.eval_period",
    "train.checkpointer.period",
    "lr_multiplier.warmup_iter",
)


@runtime_checkable
class HasOtherBatches(Protocol):
    """A training loader with other batches between those of the set whose epochs are counted."""

    def iterations_until(self, batches: int) -> int:
        """Iterations until N = ``batches`` batches of that set have come."""


def iterations_of(length: int | str, *, num_images: int, total_batch_size: int) -> int:
    """Iterations of a length given in iterations (an integer) or in epochs (``"24ep"``).

    An epoch is as many images as the dataset has records, whatever the sampler draws; e epochs
    are ceil(e * num_images / total_batch_size) iterations.

    Raises:
        ValueError: neither form.
    """
    if isinstance(length, int) and not isinstance(length, bool):
        return length
    found = _EPOCHS.fullmatch(str(length))
    if found is None:
        raise ValueError(f"a length is an integer of iterations or like '24ep', got {length!r}")
    return math.ceil(Fraction(found[1]) * num_images / total_batch_size)


def with_lengths(cfg: DictConfig, loader: Iterable[Any] | None) -> DictConfig:
    """The config with every length in iterations.

    Args:
        cfg: the whole config.
        loader: its training loader, whose ``dataset`` has a length; batches of other images
            between those of the dataset make an epoch longer. It is not needed where nothing is
            given in epochs.

    Raises:
        ValueError: a length that cannot be read, or epochs of a loader without a dataset.
    """
    cfg = copy.deepcopy(cfg)
    total_batch_size = cfg.dataloader.train.total_batch_size
    dataset = getattr(loader, "dataset", None)
    for key in LENGTHS:
        length = OmegaConf.select(cfg, key)
        if length is None or isinstance(length, int):
            continue
        if dataset is None:
            raise ValueError(f"{key} is {length!r}, but this training loader has no dataset")
        iterations = iterations_of(
            length, num_images=len(dataset), total_batch_size=total_batch_size
        )
        if isinstance(loader, HasOtherBatches):
            iterations = loader.iterations_until(iterations)
        OmegaConf.update(cfg, key, iterations)
        _LOGGER.info(
            "%s: %s of %d images by %d are %d iterations",
            key,
            length,
            len(dataset),
            total_batch_size,
            iterations,
        )
    return cfg
