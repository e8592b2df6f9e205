"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Keeps a running average of everything in a model's ``state_dict``.

    After n updates the decay is ``min(decay, (1 + n) / (10 + n))``, so that the random start
    does not weigh on short trainings. Floating-point entries are averaged, others (counters)
    are copied.

    Args:
        model: the model, not wrapped for several processes.
        decay: in [0, 1).

    Raises:
        ValueError: a decay outside [0, 1).
    """

    def __init__(self, *, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of a moving average must be in [0, 1), got {decay}")
        self.decay = decay
        self.updates = 0
        self.weights = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards the model's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        present = model.state_dict()
        averaged = [key for key, value in present.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.weights[key] for key in averaged], [present[key] for key in averaged], 1 - decay
        )
        for key in present.keys() - set(averaged):
            self.weights[key].copy_(present[key])

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Lends the average to the model; its own weights come back at the end."""
        own = {key: value.detach().clone() for key, value in model.state_dict().items()}
        model.load_state_dict(self.weights)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the number of updates and the averaged weights."""
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a saved average.

        Raises:
            ValueError: the average of another model.
        """
        saved: Mapping[str, Tensor] = state["weights"]
        wrong = sorted(saved.keys() ^ self.weights.keys())
        wrong += [
            k for k in saved.keys() & self.weights.keys() if saved[k].shape != self.weights[k].shape
        ]
        if wrong:
            raise ValueError(f"the saved moving average belongs to another model: {wrong[:10]}")
        self.updates = state["updates"]
        for key, value in self.weights.items():
            value.copy_(saved[key])
