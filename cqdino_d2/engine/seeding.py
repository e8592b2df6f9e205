"""Random generators whose state follows from (seed, iteration, rank) alone."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_generators(*entropy: int) -> None:
    """Seeds the generators of Python, NumPy and PyTorch (all devices).

    Args:
        entropy: non-negative integers; every combination gives its own streams.

    Raises:
        ValueError: a negative number.
    """
    if any(number < 0 for number in entropy):
        raise ValueError(f"seeds must not be negative, got {entropy}")
    for_torch, for_numpy, for_python = np.random.SeedSequence(entropy).generate_state(3)
    torch.manual_seed(int(for_torch))
    np.random.seed(int(for_numpy))  # noqa: NPY002 (libraries draw from the global generator)
    random.seed(int(for_python))


def seed_iteration(*, seed: int, iteration: int, rank: int) -> None:
    """Puts all generators where iteration ``iteration`` of process ``rank`` starts.

    Called before every step, it makes a resumed training draw the same dropout masks and
    denoising noise as an unbroken one, without generator states in the checkpoints.
    """
    seed_generators(seed, iteration, rank)
