"""The trainings of `study.py claim`: their command lines, their length, their processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quickstart import ROOT, override, write_metrics
from studies.claim.keys import RunKey, RunSettings, num_selected
from studies.claim.regimes import REGIMES, datasets_folder, text_file

_TIMED_STEPS = 4, 44  # starting differs by a second of CPU time from process to process


def training_command(
    output: Path, key: RunKey, settings: RunSettings, steps: int, folder: Path
) -> list[str]:
    """The arguments of Python for a run's training, from the repository's root."""
    regime = REGIMES[settings.regime]
    texts = []
    if regime.text_preset is not None and key.variant != "baseline":
        texts = [override("train.category_embeddings", text_file(output, key.categories))]
    return [
        "train_net.py",
        *("--config-file", f"{regime.configs}/{key.variant}.py", "--resume"),
        *(["--num-gpus", "0"] if settings.device == "cpu" else ["--num-gpus", "1"]),
        *([f"model.selection.num_selected={num_selected(key.categories)}"] if key.selects else []),
        *regime.overrides,
        *texts,
        *settings.overrides,
        override("train.output_dir", folder),
        f"train.seed={key.seed}",
        f"train.max_iter={steps}",
        f"train.checkpointer.period={max(1, steps // 5)}",
        "train.checkpointer.max_to_keep=1",
        f"lr_multiplier.warmup_iter={max(1, 3 * steps // 100)}",
    ]


def steps_of(output: Path, key: RunKey, settings: RunSettings) -> int:
    """How long a run trains: as the settings say, or as many steps as its cost allows.

    A variant's step is timed once per vocabulary, in CPU seconds, as the difference between a
    longer training and a shorter one; ``OUTPUT/steps/CATEGORIES-VARIANT.json`` keeps the result.

    Raises:
        subprocess.CalledProcessError: a training failed; its log names the reason.
        ValueError: no cost is given for this vocabulary.
    """
    if settings.steps is not None:
        return settings.steps
    cost = dict(settings.cost).get(key.categories)
    if cost is None:
        raise ValueError(f"no cost is given for {key.categories} categories")
    if step_cost(output, key) is None:
        folder, seconds = output / "steps" / str(key), []
        for count in _TIMED_STEPS:
            training = folder / str(count)
            command = training_command(output, key, settings, count, training)
            command.append("dataloader.evaluator=null")
            seconds.append(train(output, key, settings, training, command).cpu_seconds)
        shutil.rmtree(folder)
        step = (seconds[1] - seconds[0]) / (_TIMED_STEPS[1] - _TIMED_STEPS[0])
        keep_step_cost(output, key, round(step, 4))
    return max(1, int(60 * cost / step_cost(output, key)))


def step_cost(output: Path, key: RunKey) -> float | None:
    """CPU seconds of a step of a run's variant and vocabulary; None if it was not timed."""
    path = _step_file(output, key)
    return json.loads(path.read_text())["cpu_seconds_per_step"] if path.is_file() else None


def keep_step_cost(output: Path, key: RunKey, seconds: float) -> None:
    """Remembers it for the runs of all seeds."""
    path = _step_file(output, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_metrics(path, {"cpu_seconds_per_step": seconds})


def _step_file(output: Path, key: RunKey) -> Path:
    return output / "steps" / f"{key.categories}-{key.variant}.json"


@dataclass(frozen=True)
class Usage:
    """What a process took.

    Attributes:
        wall_seconds, cpu_seconds: from its start to its end; CPU seconds of all its threads.
        resident_kib: its resident peak.
    """

    wall_seconds: float
    cpu_seconds: float
    resident_kib: int


def train(
    output: Path, key: RunKey, settings: RunSettings, folder: Path, command: Sequence[str]
) -> Usage:
    """Runs a training in a process of its own, with one thread on a CPU.

    Raises:
        subprocess.CalledProcessError: it failed; ``output.log`` in its folder names the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"DETECTRON2_DATASETS": str(datasets_folder(output, key.categories))}
    if settings.device == "cpu":
        environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    started = time.monotonic()
    with open(folder / "output.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Usage(time.monotonic() - started, cpu_seconds, usage.ru_maxrss)
