"""The figures of one training step of all processes, fetched from the device in one go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor


@dataclass(frozen=True)
class StepFigures:
    """What one process saw in one step.

    Attributes:
        parts: the weighted losses by name, for each part of the process's batch.
        gradient_norm: of the whole step, before clipping.
        data_time: seconds spent on waiting for the batch.
    """

    parts: tuple[dict[str, float], ...]
    gradient_norm: float
    data_time: float

    @property
    def losses(self) -> dict[str, float]:
        """Mean over the parts."""
        count = len(self.parts)
        return {name: sum(part[name] for part in self.parts) / count for name in self.parts[0]}

    def bad_losses(self) -> list[dict[str, float]]:
        """For each part what is not finite."""
        return [
            {name: value for name, value in part.items() if not math.isfinite(value)}
            for part in self.parts
        ]


def gather_figures(
    losses: Sequence[Mapping[str, Tensor]], gradient_norm: Tensor, data_time: float
) -> list[StepFigures]:
    """The figures of every process, in the order of their ranks, known to all.

    There is one transfer from the device, however many losses there are.

    Args:
        losses: for each part scalars by name; the same names in all parts and processes.
        gradient_norm: scalar.
        data_time: in seconds.
    """
    names = list(losses[0])
    flat = [part[name].detach().float() for part in losses for name in names]
    waited = torch.tensor(data_time, device=gradient_norm.device)
    own = torch.stack([*flat, gradient_norm.float(), waited])
    gathered = [own]
    if comm.get_world_size() > 1:
        gathered = [torch.empty_like(own) for _ in range(comm.get_world_size())]
        dist.all_gather(gathered, own)
    rows = torch.stack(gathered).tolist()
    starts = range(0, len(flat), len(names))
    return [
        StepFigures(
            parts=tuple(
                dict(zip(names, row[start : start + len(names)], strict=True)) for start in starts
            ),
            gradient_norm=row[-2],
            data_time=row[-1],
        )
        for row in rows
    ]


def mean_losses(figures: Sequence[StepFigures]) -> dict[str, float]:
    """Every loss averaged over the processes."""
    rows = [one.losses for one in figures]
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
