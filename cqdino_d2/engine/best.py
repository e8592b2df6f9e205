"""Keeps the weights that an evaluation liked best."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.evaluation.testing import flatten_results_dict
from torch import Tensor

from ..files import read_tensor_file, write_atomically

_LOGGER = logging.getLogger(__name__)
BEST_WEIGHTS = "model_best.pth"


class BestKeeper:
    """Writes ``model_best.pth`` whenever a figure of an evaluation beats all before it.

    The file holds the weights that were evaluated, the figure and the iteration; a resumed
    training continues from the figure in it, a new one removes what an earlier one left.

    Args:
        folder: of the training.
        metric: task and figure, e.g. ``bbox/AP``.
        mode: "max" or "min": which figures are better.
        resumed: this training is resumed from a checkpoint.

    Raises:
        ValueError: another mode, or a file that cannot be read.
    """

    def __init__(self, *, folder: str | Path, metric: str, mode: str, resumed: bool) -> None:
        if mode not in ("max", "min"):
            raise ValueError(f"train.best.mode must be 'max' or 'min', got {mode!r}")
        self.path = Path(folder, BEST_WEIGHTS)
        self.metric, self._sign = metric, 1 if mode == "max" else -1
        self.value: float | None = None
        if not resumed:
            self.path.unlink(missing_ok=True)
        elif self.path.is_file():
            saved = read_tensor_file(self.path)
            if saved["metric"] == metric:
                self.value = saved["value"]

    def take(
        self,
        results: Mapping[str, Any],
        *,
        iteration: int,
        weights: Callable[[], Mapping[str, Tensor]],
    ) -> bool:
        """Looks at the results of an evaluation.

        Args:
            results: task -> figure -> value.
            iteration: iterations done so far.
            weights: gives what was evaluated.

        Returns:
            Whether they are the best so far and were written.
        """
        figures = flatten_results_dict(results)
        if self.metric not in figures:
            _LOGGER.warning(
                "The best checkpoint is chosen by %s, but the evaluation gives %s",
                self.metric,
                sorted(figures),
            )
            return False
        value = float(figures[self.metric])
        better = self.value is None or self._sign * value > self._sign * self.value
        if not math.isfinite(value) or not better:
            return False
        content = {
            "model": dict(weights()),
            "metric": self.metric,
            "value": value,
            "iteration": iteration,
        }
        write_atomically(self.path, lambda file: torch.save(content, file))
        _LOGGER.info("%s = %.5g is the best so far: %s", self.metric, value, self.path)
        self.value = value
        return True
