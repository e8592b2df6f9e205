"""How far a training is and how long it will take, for people."""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass

import torch
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

from .evaluation import Evaluation
from .trainer import Trainer

_LOGGER = logging.getLogger(__name__)
_WARM_UP_STEPS = 3  # libraries prepare code for the sizes that they meet
_TIMED_STEPS = 8
_PACE_STEPS = 100  # of late, and their mean: what is left will be as busy a time as now


@dataclass(frozen=True)
class Pace:
    """How fast the machine at hand is.

    Attributes:
        step: seconds of the median training step.
        evaluation: seconds of predicting all test images, without scoring.
    """

    step: float
    evaluation: float


def measure_pace(trainer: Trainer, evaluation: Evaluation) -> Pace:
    """Times a few steps and the prediction of one batch.

    Args:
        trainer: one that is not needed any more: the steps change its weights.
        evaluation: of its model.
    """
    seconds = []
    with EventStorage(0) as trainer.storage:
        for trainer.iter in range(_WARM_UP_STEPS + _TIMED_STEPS):
            start = time.perf_counter()
            trainer.run_step()
            seconds.append(time.perf_counter() - start)
    batch, model = next(iter(evaluation.loader)), evaluation.model.eval()
    with torch.no_grad():
        model(batch)
        start = time.perf_counter()
        model(batch)
    batch_seconds = time.perf_counter() - start
    return Pace(
        step=statistics.median(seconds[_WARM_UP_STEPS:]),
        evaluation=batch_seconds * len(evaluation.loader),
    )


class ProgressPrinter(EventWriter):
    """Logs one short line: step, loss, learning rate, seconds a step and the time left.

    The single losses are in ``metrics.json``.

    Args:
        max_iter: steps of the whole training.
        window_size: the loss is the median over this many steps.
    """

    def __init__(self, max_iter: int, window_size: int) -> None:
        self._max_iter, self._window_size = max_iter, window_size

    def write(self) -> None:
        """Logs the present step; nothing once the training is complete."""
        storage = get_event_storage()
        done, histories = storage.iter + 1, storage.histories()
        if done > self._max_iter:
            return
        words = [f"step {done}/{self._max_iter}"]
        if "total_loss" in histories:
            words.append(f"loss {histories['total_loss'].median(self._window_size):.3f}")
        if "lr" in histories:
            words.append(f"lr {histories['lr'].latest():.1e}")
        if "time" in histories:  # not in the first steps, which are slower
            seconds = histories["time"].avg(_PACE_STEPS)
            left = duration(seconds * (self._max_iter - done))
            words.append(f"{seconds:.2f} s a step, ETA {left}")
        _LOGGER.info("%s", "  ".join(words))


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
