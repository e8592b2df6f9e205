"""Runs of train_net.py that studies are made of."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from quickstart import ROOT

from cqdino_d2.files import write_text

from .claim.verdict import mean_interval


def run_logged(command: Sequence[str], folder: Path) -> None:
    """Runs a command of the repository, with its output in ``run.log`` of a folder.

    Raises:
        ValueError: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "run.log", "wb") as log:
        done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise ValueError(f"the run {folder.name} failed: see {folder / 'run.log'}")


def box_figures(
    folder: Path, config_file: str, settings: Sequence[str], *options: str
) -> dict[str, float]:
    """The figures of a run by the first of its protocols for boxes: see `all_figures`."""
    return all_figures(folder, config_file, settings, *options)["bbox"]


def all_figures(
    folder: Path, config_file: str, settings: Sequence[str], *options: str
) -> dict[str, dict[str, float]]:
    """The figures of a run of train_net.py by protocol; it is done if they are not there.

    Args:
        folder: of the run.
        config_file: its recipe.
        settings: overrides of the recipe.
        options: of train_net.py, for example ``--eval-only``.

    Raises:
        ValueError: it failed, or the folder has one of other settings.
    """
    folder = folder.resolve()
    results, record = folder / "results.json", folder / "command.json"
    asked = [config_file, *options, *settings]
    if not results.is_file():
        command = [sys.executable, "train_net.py", "--config-file", config_file, *options]
        run_logged([*command, f"train.output_dir={folder}", *settings], folder)
        write_text(record, json.dumps(asked))
    elif record.is_file() and json.loads(record.read_text(encoding="utf-8")) != asked:
        raise ValueError(f"{folder} has a run of other settings: choose another --output")
    return json.loads(results.read_text(encoding="utf-8"))


def keep_table(text: str, output: Path) -> None:
    """Prints a study's table and keeps it as table.md."""
    write_text(output / "table.md", text)
    print(text)


def mean_cell(values: Sequence[float]) -> str:
    """The mean, and of several values its 95 % interval."""
    mean = statistics.fmean(values)
    spread = f" ± {mean_interval(values)[1] - mean:.2f}" if len(values) > 1 else ""
    return f"{mean:.2f}{spread}"
