"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class ExponentialMovingAverage:
    """Keeps a running average of a model: parameters, buffers and counters.

    After n updates the decay is ``min(decay, (1 + n) / (10 + n))``, so that the random start
    does not weigh on short trainings. Floating-point entries are averaged, others (counters)
    are copied. Frozen parameters are shared with the model.

    Args:
        model: the model, not wrapped for several processes.
        decay: in [0, 1).

    Attributes:
        model: a copy of the model with the averaged weights, to evaluate.

    Raises:
        ValueError: a decay outside [0, 1).
    """

    def __init__(self, *, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of a moving average must be in [0, 1), got {decay}")
        self.decay = decay
        self._averaged = AveragedModel(model, multi_avg_fn=self._average, use_buffers=True)
        for own, averaged in zip(model.parameters(), self.model.parameters(), strict=True):
            if not own.requires_grad:
                averaged.data = own.data
        self._averaged.requires_grad_(False)
        self._averaged.n_averaged.fill_(1)  # at 0 it would take over the next weights whole

    @property
    def model(self) -> nn.Module:
        """The averaged model."""
        return self._averaged.module

    @property
    def weights(self) -> dict[str, Tensor]:
        """Name -> average, as in the model's ``state_dict``."""
        return self.model.state_dict()

    @property
    def updates(self) -> int:
        """How often the average was moved."""
        return int(self._averaged.n_averaged) - 1

    def update(self, model: nn.Module) -> None:
        """Moves the average towards the model's present weights."""
        self._averaged.update_parameters(model)

    @torch.no_grad()
    def _average(self, averages: list[Tensor], present: list[Tensor], count: Tensor) -> None:
        """All tensors of one type on one device."""
        pairs = [
            pair for pair in zip(averages, present, strict=True) if not pair[0].is_set_to(pair[1])
        ]
        if not pairs:
            return
        averages, present = map(list, zip(*pairs, strict=True))
        if averages[0].is_floating_point():
            updates = int(count) - 1
            decay = min(self.decay, (1 + updates) / (10 + updates))
            torch._foreach_lerp_(averages, present, 1 - decay)
        else:
            torch._foreach_copy_(averages, present)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the number of updates and the averaged weights."""
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a saved average.

        Raises:
            ValueError: the average of another model.
        """
        saved: Mapping[str, Tensor] = state["weights"]
        own = self.weights
        wrong = sorted(saved.keys() ^ own.keys())
        wrong += [k for k in saved.keys() & own.keys() if saved[k].shape != own[k].shape]
        if wrong:
            raise ValueError(f"the saved moving average belongs to another model: {wrong[:10]}")
        self.model.load_state_dict(saved)
        self._averaged.n_averaged.fill_(state["updates"] + 1)
