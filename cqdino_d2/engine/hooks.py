"""What happens around the training steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter
from torch import nn

from ..structures import write_atomically
from .checkpointer import AtomicCheckpointer
from .ema import ExponentialMovingAverage

INFERENCE_WEIGHTS = "model_inference.pth"


def save_inference_weights(
    folder: str | Path, model: nn.Module, ema: ExponentialMovingAverage | None
) -> None:
    """Writes ``model_inference.pth``: the weights to predict with, averaged if there is an EMA."""
    weights = model.state_dict() if ema is None else ema.weights
    content = {"model": dict(weights)}
    write_atomically(Path(folder, INFERENCE_WEIGHTS), lambda file: torch.save(content, file))


class InferenceExporter(HookBase):
    """Writes the weights to predict with periodically and after the last step."""

    def __init__(
        self,
        *,
        folder: str,
        model: nn.Module,
        ema: ExponentialMovingAverage | None,
        period: int,
    ) -> None:
        self._folder, self._model, self._ema, self._period = folder, model, ema, period

    def after_step(self) -> None:
        """Exports when a period or the training is complete."""
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            save_inference_weights(self._folder, self._model, self._ema)


def build_hooks(
    *,
    checkpointer: AtomicCheckpointer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    ema: ExponentialMovingAverage | None,
    settings: Any,
    start_iter: int,
    evaluate: Callable[[], dict[str, Any]],
) -> list[HookBase | None]:
    """The hooks of a training in the order in which they run.

    Args:
        checkpointer: holds the model and everything else that is resumed.
        scheduler: of the learning rate, stepped once per iteration.
        ema: the moving average, if there is one.
        settings: the config's ``train`` node.
        start_iter: the first iteration of this run.
        evaluate: called on every process, returns results on the main one.
    """
    timing = [hooks.IterationTimer(), hooks.LRScheduler(scheduler.optimizer, scheduler)]
    evaluation = hooks.EvalHook(settings.eval_period, evaluate)
    if not comm.is_main_process():
        return [*timing, evaluation]
    folder, saving = settings.output_dir, settings.checkpointer
    exporter = InferenceExporter(
        folder=folder, model=checkpointer.model, ema=ema, period=saving.period
    )
    metrics = Path(folder, "metrics.json")
    drop_unfinished_metrics(metrics, start_iter)  # before the writer opens the file
    writers = [
        CommonMetricPrinter(settings.max_iter),
        JSONWriter(str(metrics), settings.log_window),
        TensorboardXWriter(folder, settings.log_window),
    ]
    return [
        *timing,
        _periodic_checkpointer(checkpointer, saving.period, saving.max_to_keep, start_iter),
        exporter,
        evaluation,
        hooks.PeriodicWriter(writers, settings.log_period),
    ]


def _periodic_checkpointer(
    checkpointer: AtomicCheckpointer, period: int, max_to_keep: int | None, start_iter: int
) -> hooks.PeriodicCheckpointer:
    """Detectron2's hook; checkpoints of the run that is resumed count among those to keep."""
    hook = hooks.PeriodicCheckpointer(checkpointer, period, max_to_keep=max_to_keep)
    numbered = sorted(Path(checkpointer.save_dir).glob("model_[0-9]*.pth"))
    earlier = [path for path in numbered if int(path.stem.removeprefix("model_")) < start_iter]
    hook.recent_checkpoints = [str(path) for path in earlier]
    return hook


def drop_unfinished_metrics(path: str | Path, start_iter: int) -> None:
    """Removes lines of ``metrics.json`` from iterations that a resumed training repeats."""
    if not Path(path).is_file():
        return
    lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if _iteration_of(line) < start_iter]
    write_atomically(path, lambda file: file.write("".join(kept).encode()))


def _iteration_of(line: str) -> float:
    try:
        return json.loads(line)["iteration"]
    except json.JSONDecodeError:  # the process was killed while it wrote this line
        return float("inf")
