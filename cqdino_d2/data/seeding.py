"""Randomness that depends on a number alone, whatever drew before."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded_generators(key: int | Sequence[int]) -> Iterator[None]:
    """Seeds Python's, NumPy's and PyTorch's (CPU) global generators for the time of a block.

    Args:
        key: one or several non-negative integers.
    """
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - Detectron2's augmentations draw from it
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.random.set_rng_state(states[2])
