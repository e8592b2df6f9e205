"""Table, verdicts and plot of `study.py long_tail`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from ..claim.verdict import mean_interval
from ..training_runs import mean_cell

ARMS = {
    "box": "boxes alone",
    "federated": "+ federated loss",
    "semantic": "+ semantic branch",
    "image_level": "+ image-level batches",
    "image_level_masked": "their boxes masked",
}
FIGURES = {  # of results: name
    "coco_AP": "AP, COCO",
    "coco_AP50": "AP50, COCO",
    "coco_AP75": "AP75, COCO",
    "AP": "AP, LVIS",
    "APr": "APr",
    "APc": "APc",
    "APf": "APf",
}
Runs = Sequence[dict[str, Any]]


def by_seed(runs: Runs, arm: str, figure: str) -> dict[int, float]:
    """Seed -> figure of an arm's runs, where it is known: a set may have no rare categories."""
    return {
        run["seed"]: run[figure] for run in runs if run["arm"] == arm and run[figure] is not None
    }


def differences(runs: Runs, first: str, second: str, figure: str) -> list[float]:
    """First minus second, of the seeds that both have."""
    a, b = (by_seed(runs, arm, figure) for arm in (first, second))
    return [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]


def table(runs: Runs) -> str:
    """A row for each arm: means, and 95 % intervals where there are several seeds."""
    lines = [
        "| | seeds | " + " | ".join(FIGURES.values()) + " |",
        "|---" * (len(FIGURES) + 2) + "|",
    ]
    for arm, title in ARMS.items():
        values = {figure: list(by_seed(runs, arm, figure).values()) for figure in FIGURES}
        if count := len(values["AP"]):
            cells = " | ".join(mean_cell(found) if found else "–" for found in values.values())
            lines.append(f"| {title} | {count} | {cells} |")
    return "\n".join(lines)


def verdict(values: Sequence[float]) -> str:
    """Whether differences have a sign: their 95 % interval (Student's t) leaves out zero."""
    if not values:
        return "–"
    low, high = mean_interval(values)
    mean = statistics.fmean(values)
    if math.isinf(low):
        return f"{mean:+.1f}, one seed decides nothing"
    word = "helped" if low > 0 else "harmed" if high < 0 else "not decided"
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f}), {word}"


def report(runs: Runs, known: Mapping[str, float]) -> str:
    """The table, and what each part changed against the arm before it and against boxes alone.

    Args:
        runs: the figures of all runs.
        known: percent of the held-out boxes that the teacher names right, by frequency.
    """
    text = [table(runs), "", "| part | against | " + " | ".join(FIGURES.values()) + " |"]
    text.append("|---" * (len(FIGURES) + 2) + "|")
    names = list(ARMS)
    pairs = [*zip(names[1:], names[:-1], strict=True), *((name, "box") for name in names[2:])]
    for first, second in pairs:
        found = {figure: differences(runs, first, second, figure) for figure in FIGURES}
        if found["AP"]:
            cells = " | ".join(map(verdict, found.values()))
            text.append(f"| {ARMS[first]} | {ARMS[second]} | {cells} |")
    if known:
        words = {"r": "rare", "c": "common", "f": "frequent"}
        shares = ", ".join(f"{known[k]:.0f} % of {word}" for k, word in words.items() if k in known)
        text += ["", f"Held-out boxes that the teacher names right: {shares} emoji."]
    return "\n".join(text)


def draw(runs: Runs, path: Path) -> None:
    """A group of bars for each figure, a bar for each arm's mean, a dot for each run."""
    shown = [arm for arm in ARMS if by_seed(runs, arm, "AP")]
    figure, axes = plt.subplots(figsize=(9.4, 3.8), dpi=130)
    width = 0.8 / len(shown)
    colours = dict(zip(ARMS, ("0.65", "#7570b3", "#66a61e", "#d95f02", "#e6ab02"), strict=True))
    for index, arm in enumerate(shown):
        for place, name in enumerate(FIGURES):
            if not (values := list(by_seed(runs, arm, name).values())):
                continue
            x = place + (index - (len(shown) - 1) / 2) * width
            label = ARMS[arm] if place == 0 else None
            axes.bar(x, statistics.fmean(values), 0.9 * width, color=colours[arm], label=label)
            axes.plot([x] * len(values), values, "o", ms=3, mfc="white", mec="0.2", mew=0.8)
    axes.set_xticks(range(len(FIGURES)), FIGURES.values())
    axes.set_ylabel("on held-out images")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
