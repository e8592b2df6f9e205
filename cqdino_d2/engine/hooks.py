"""What happens around the training steps."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)

from ..files import write_atomically
from .best import BestKeeper
from .checkpointer import AtomicCheckpointer
from .evaluation import Evaluation
from .progress import ProgressPrinter
from .wandb_writer import WandbWriter

INFERENCE_WEIGHTS = "model_inference.pth"
_PROGRESS = ("losses", "short")
_LOGGER = logging.getLogger(__name__)


class InferenceExporter(HookBase):
    """Writes the weights to predict with periodically and after the last step."""

    def __init__(self, *, evaluation: Evaluation, period: int) -> None:
        self._evaluation, self._period = evaluation, period

    def after_step(self) -> None:
        """Exports when a period or the training is complete."""
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            content = {"model": dict(self._evaluation.weights())}
            path = Path(self._evaluation.folder, INFERENCE_WEIGHTS)
            write_atomically(path, lambda file: torch.save(content, file))


class StopOnTermination(HookBase):
    """Ends the training after the present step when SIGTERM comes, with a checkpoint of that step.

    So do machines that are needed elsewhere, batch systems at the end of the time and `kill`. The
    exit code is 143. With several processes, which would have to agree on the step, and outside
    the main thread, SIGTERM ends the process at once as ever.
    """

    EXIT_CODE = 128 + signal.SIGTERM

    def __init__(self, checkpointer: AtomicCheckpointer) -> None:
        self._checkpointer = checkpointer
        self._asked, self._before = False, None

    def before_train(self) -> None:
        """Begins to listen."""
        if comm.get_world_size() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def after_step(self) -> None:
        """Saves and ends the program, if it was asked to."""
        if not self._asked:
            return
        done = self.trainer.iter
        self._checkpointer.save(f"model_{done:07d}", iteration=done)
        _LOGGER.warning("Stopped by SIGTERM after step %d; --resume continues from there", done + 1)
        raise SystemExit(self.EXIT_CODE)

    def after_train(self) -> None:
        """Leaves the signal to whoever had it before."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


class TrainingClock(HookBase):
    """Logs ``train_seconds``: what the steps so far took, those before a resume included."""

    def __init__(self, seconds_before: float) -> None:
        self._before = seconds_before

    def before_train(self) -> None:
        """Starts."""
        self._start = time.perf_counter()

    def after_step(self) -> None:
        """Logs."""
        seconds = self._before + time.perf_counter() - self._start
        self.trainer.storage.put_scalar("train_seconds", seconds, smoothing_hint=False)


def build_hooks(
    *,
    checkpointer: AtomicCheckpointer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    evaluation: Evaluation,
    settings: Any,
    start_iter: int,
    config: dict[str, Any],
) -> list[HookBase | None]:
    """The hooks of a training in the order in which they run.

    Args:
        checkpointer: holds the model and everything else that is resumed.
        scheduler: of the learning rate, stepped once per iteration.
        evaluation: run on every process.
        settings: the config's ``train`` node, lengths in iterations.
        start_iter: the first iteration of this run.
        config: the whole config as plain values, for those who show it.

    Raises:
        ValueError: a setting that cannot be used.
    """
    saving, main = settings.checkpointer, comm.is_main_process()
    common = [
        hooks.IterationTimer(),
        hooks.LRScheduler(scheduler.optimizer, scheduler),
        # in every process: they may hold shares of what is saved
        _periodic_checkpointer(
            checkpointer, saving.period, saving.max_to_keep if main else None, start_iter
        ),
    ]
    if not main:
        return [*common, hooks.EvalHook(settings.eval_period, evaluation.run)]
    resumed = start_iter > 0
    metrics = Path(settings.output_dir, "metrics.json")
    drop_unfinished_metrics(metrics, start_iter)  # before the writer opens the file
    seconds_before = last_figure(metrics, "train_seconds", 0.0)
    evaluate = _evaluate_and_keep_best(evaluation, settings, resumed)
    return [
        *common,
        InferenceExporter(evaluation=evaluation, period=saving.period),
        hooks.EvalHook(settings.eval_period, evaluate),
        TrainingClock(seconds_before),
        hooks.PeriodicWriter(
            _writers(settings, metrics, resumed=resumed, config=config), settings.log_period
        ),
        StopOnTermination(checkpointer),  # last: the other hooks have had their step
    ]


def _evaluate_and_keep_best(
    evaluation: Evaluation, settings: Any, resumed: bool
) -> Callable[[], dict[str, Any]]:
    if settings.best.metric is None:
        return evaluation.run
    best = BestKeeper(folder=settings.output_dir, resumed=resumed, **settings.best)

    def evaluate() -> dict[str, Any]:
        results = evaluation.run()
        best.take(results, iteration=get_event_storage().iter, weights=evaluation.weights)
        return results

    return evaluate


def _writers(
    settings: Any, metrics: Path, *, resumed: bool, config: dict[str, Any]
) -> list[EventWriter]:
    folder, window = settings.output_dir, settings.log_window
    if settings.progress not in _PROGRESS:
        raise ValueError(f"train.progress must be one of {_PROGRESS}, got {settings.progress!r}")
    short = settings.progress == "short"
    writers = [
        (ProgressPrinter if short else CommonMetricPrinter)(settings.max_iter, window),
        JSONWriter(str(metrics), window),
        TensorboardXWriter(folder, window),
    ]
    if settings.wandb.project is not None:
        given = {"folder": folder, "window": window, "resumed": resumed, "config": config}
        writers.append(WandbWriter(**given, **settings.wandb))
    return writers


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
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _iteration_of(line) < start_iter]
    write_atomically(path, lambda file: file.write("".join(kept).encode()))


def last_figure(path: str | Path, name: str, default: float) -> float:
    """The last value of a figure in ``metrics.json``; the default where there is none."""
    lines = Path(path).read_text(encoding="utf-8").splitlines() if Path(path).is_file() else []
    rows = [json.loads(line) for line in lines if f'"{name}"' in line]
    return next((row[name] for row in reversed(rows)), default)


def _iteration_of(line: str) -> float:
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, LookupError, TypeError):  # a process was killed while it wrote this line
        return float("inf")
