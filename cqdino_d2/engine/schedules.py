"""Learning-rate schedules with a warm-up counted in iterations."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler, ParamScheduler

_ROUNDING = 1e-9  # shares of the training are quotients of integers


def multi_step_schedule(
    *,
    max_iter: int,
    epochs: float,
    milestones: Sequence[float],
    gamma: float = 0.1,
    warmup_iter: int = 1000,
    warmup_factor: float = 0.1,
) -> ParamScheduler:
    """Multiplies the rate by ``gamma`` at each milestone.

    Args:
        max_iter: iterations of the whole training.
        epochs: length of the whole training in the unit of ``milestones``.
        milestones: ascending, inside 0..epochs.
        gamma: factor at each milestone.
        warmup_iter: iterations of the linear warm-up, at most ``max_iter``.
        warmup_factor: where the warm-up starts, as a share of the full rate.

    Raises:
        ValueError: milestones that are not ascending inside 0..epochs.
    """
    if list(milestones) != sorted(milestones) or not all(0 < m < epochs for m in milestones):
        raise ValueError(f"milestones must ascend inside 0..{epochs}, got {list(milestones)}")
    steps = _Steps([milestone / epochs for milestone in milestones], gamma)
    return _with_warmup(steps, max_iter, warmup_iter, warmup_factor)


def cosine_schedule(
    *,
    max_iter: int,
    final_factor: float = 0.0,
    warmup_iter: int = 1000,
    warmup_factor: float = 0.1,
) -> ParamScheduler:
    """Half a cosine from the full rate to ``final_factor`` of it; arguments as above."""
    cosine = CosineParamScheduler(1.0, final_factor)
    return _with_warmup(cosine, max_iter, warmup_iter, warmup_factor)


def _with_warmup(
    scheduler: ParamScheduler, max_iter: int, warmup_iter: int, warmup_factor: float
) -> ParamScheduler:
    if warmup_iter <= 0:
        return scheduler
    return WarmupParamScheduler(scheduler, warmup_factor, min(1.0, warmup_iter / max_iter))


class _Steps(ParamScheduler):
    """A power of ``gamma`` that grows at each of the milestones (shares of the training).

    fvcore's own class wants more iterations than milestones, which tiny trial runs have not.
    """

    def __init__(self, milestones: Sequence[float], gamma: float) -> None:
        self._milestones, self._gamma = milestones, gamma

    def __call__(self, where: float) -> float:
        return self._gamma ** sum(where + _ROUNDING >= m for m in self._milestones)
