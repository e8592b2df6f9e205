"""The single runs of `study.py claim`: data, training and one JSON file per run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import commit, processor_name
from quickstart import ROOT, override, write_metrics
from studies.claim.keys import VARIANTS, RunKey, RunSettings
from studies.claim.regimes import datasets_folder, regime_of
from studies.claim.trainings import (
    keep_step_cost,
    step_cost,
    steps_of,
    train,
    training_command,
)

CURVES = (
    "gradient/positive_to_negative",
    "gradient/hard_share",
    "gradient/hard_count_share",
    "gradient/negatives_per_positive",
    "loss_class",
    "loss_category",
)


def result_file(output: Path, key: RunKey) -> Path:
    """Where a run's figures are."""
    return output / "runs" / f"{key}.json"


def is_done(output: Path, key: RunKey, settings: RunSettings) -> bool:
    """Whether the run is complete.

    Raises:
        ValueError: it is, with other settings.
    """
    path = result_file(output, key)
    if not path.is_file():
        return False
    defaults = asdict(RunSettings(None, "cpu"))
    there = json.loads(json.dumps(defaults | json.loads(path.read_text())["settings"]))
    wanted = json.loads(json.dumps(asdict(settings.of(key.categories))))
    if there != wanted:
        different = {k: (there.get(k), v) for k, v in wanted.items() if there.get(k) != v}
        raise ValueError(
            f"{path} was made with other settings (there, wanted): {different}; name another "
            "--output, and another --report if it holds this run, or remove it"
        )
    return True


def run(output: Path, key: RunKey, settings: RunSettings) -> dict[str, Any]:
    """Trains and evaluates in a process of its own (one thread on a CPU); returns the figures.

    Raises:
        subprocess.CalledProcessError: the training failed; its log names the reason.
    """
    steps = steps_of(output, key, settings)
    folder = output / "training" / str(key)
    command = training_command(output, key, settings, steps, folder)
    resumed = (folder / "last_checkpoint").is_file()
    usage = train(output, key, settings, folder, command)
    result = {
        "run": asdict(key),
        "settings": asdict(settings.of(key.categories)),
        "steps": steps,
        "cpu_seconds_per_step": step_cost(output, key),
        "commit": commit(),
        "processor": processor_name(),
        "command": ["python", *command],
        "torch": torch.__version__,
        "resumed": resumed,  # then seconds and memory are those since the last start
        "wall_seconds": round(usage.wall_seconds, 1),
        "cpu_seconds": round(usage.cpu_seconds, 1),
        "peak_memory_mib": _peak_memory(folder, settings.device, usage.resident_kib),
        **read_training(folder),
    }
    result_file(output, key).parent.mkdir(parents=True, exist_ok=True)
    write_metrics(result_file(output, key), result)
    return result


def restore(output: Path, published: Path) -> int:
    """Takes over what a report holds and ``output`` lacks; returns how many runs that were.

    So a comparison is continued where its trainings are no more.

    Args:
        output: of `study.py claim`.
        published: the report's ``runs.json``; there need not be one.
    """
    if not published.is_file():
        return 0
    content, count = json.loads(published.read_text()), 0
    for part in ("runs", "all_at_test", "perfect_selection"):
        for one in content.get(part, []):
            key = RunKey(**one["run"])
            new = _write_if_missing(output / part / f"{key}.json", one)
            count += new and part == "runs"
            if one.get("cpu_seconds_per_step") and step_cost(output, key) is None:
                keep_step_cost(output, key, one["cpu_seconds_per_step"])
    for categories, one in content["speeds"].items():
        _write_if_missing(output / "speed" / f"{categories}.json", one)
    return count


def _write_if_missing(path: Path, content: dict[str, Any]) -> bool:
    if path.is_file():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_metrics(path, content)
    return True


def evaluate_with_all(output: Path, key: RunKey) -> None:
    """Evaluates a finished run of a selecting variant with K = V, on the CPU or its first GPU.

    So nothing is lost to the selection; the detector has been trained with fewer categories,
    though. Writes ``all_at_test/KEY.json``, if it is not there.

    Raises:
        subprocess.CalledProcessError: the evaluation failed.
    """
    path = output / "all_at_test" / f"{key}.json"
    if path.is_file():
        return
    run_file = json.loads(result_file(output, key).read_text())
    regime = regime_of([run_file])
    training, folder = output / "training" / str(key), output / "all_at_test" / str(key)
    command = [
        "train_net.py",
        *("--config-file", f"{regime.configs}/{key.variant}.py", "--eval-only"),
        *(["--num-gpus", "0"] if run_file["settings"]["device"] == "cpu" else []),
        *run_file["settings"]["overrides"],
        f"model.selection.num_selected={run_file['vocabulary_size']}",
        override("train.init_checkpoint", training / "model_inference.pth"),
        override("train.output_dir", folder),
    ]
    environment = os.environ | {"DETECTRON2_DATASETS": str(datasets_folder(output, key.categories))}
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "output.log", "wb") as log:
        subprocess.run(
            [sys.executable, *command],
            check=True,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
    content = {"run": asdict(key), "command": ["python", *command]}
    write_metrics(path, content | {"figures": _figures(folder)})


def load_with_all(output: Path) -> list[dict[str, Any]]:
    """What `evaluate_with_all` wrote."""
    return [
        json.loads(path.read_text()) for path in sorted((output / "all_at_test").glob("*.json"))
    ]


def _figures(folder: Path) -> dict[str, float | None]:
    """COCO's figures with LVIS' APr, APc, APf and AP_lvis, and ARC."""
    results = json.loads((folder / "results.json").read_text())
    lvis = {name: results["lvis"][name] for name in ("APr", "APc", "APf")}
    return results["bbox"] | lvis | {"AP_lvis": results["lvis"]["AP"]} | results["selection"]


def _peak_memory(folder: Path, device: str, resident_kib: int) -> float:
    """MiB: on a GPU what PyTorch allocated at most, on a CPU the process's resident peak."""
    if device == "cpu":
        return round(resident_kib / 1024, 1)
    return max(float(x) for x in re.findall(r"max_mem: (\d+)M", (folder / "log.txt").read_text()))


def read_training(folder: Path) -> dict[str, Any]:
    """Figures and curves of a finished training.

    Returns:
        ``figures`` (COCO's, with LVIS' APr, APc, APf and AP_lvis, and ARC), ``curves`` (name ->
        steps and values), ``vocabulary_size``, ``parameters``, ``train_seconds``.
    """
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    curves = {}
    for name in CURVES:
        points = [(row["iteration"], row[name]) for row in rows if name in row]
        if points:
            steps, values = zip(*points, strict=True)
            curves[name] = {"steps": steps, "values": values}
    weights = torch.load(folder / "model_inference.pth", weights_only=True)["model"]
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    return {
        "figures": _figures(folder),
        "curves": curves,
        "vocabulary_size": len(vocabulary["names"]),
        "parameters": sum(x.numel() for x in weights.values()),
        "train_seconds": next(
            (row["train_seconds"] for row in reversed(rows) if "train_seconds" in row), None
        ),
    }


def load_runs(output: Path) -> list[dict[str, Any]]:
    """All complete runs, ordered by vocabulary, variant and seed."""
    runs = [json.loads(path.read_text()) for path in sorted((output / "runs").glob("*.json"))]
    order = list(VARIANTS)

    def place(one: dict[str, Any]) -> tuple[int, int, int]:
        key = one["run"]
        return key["categories"], order.index(key["variant"]), key["seed"]

    return sorted(runs, key=place)
