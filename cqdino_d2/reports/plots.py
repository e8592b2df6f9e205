"""Plots of an evaluation."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from ..evaluation import ErrorBreakdown, Report
from ..files import write_atomically

_SHOWN_BRANCHES = 12
_SMALLEST_BRANCH = 3  # categories with ground truth, where not all branches can be shown
_MOST_BINS = 15
_COLOURS = {"r": "#c0504d", "c": "#e0a030", "f": "#3a7d44", "all": "#2c5f8a"}
_BANDS = {"r": "rare", "c": "common", "f": "frequent"}


def draw_all(
    report: Report, errors: ErrorBreakdown, tree_file: Path | None, folder: Path
) -> list[Path]:
    """Draws everything there is something to draw of.

    Args:
        report: of the evaluation.
        errors: of the same detections.
        tree_file: category tree with V3Det's tables, or None.
        folder: gets the PNGs.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "ap_over_frequency": _ap_over_frequency(report),
        "precision_recall": _precision_recall(report),
        "errors": _errors(errors),
    }
    if tree_file is not None:
        figures["tree_branches"] = _tree_branches(report, tree_file)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        _save(figure, paths[-1])
    return paths


def _save(figure: plt.Figure, path: Path) -> None:
    options = {"format": "png", "dpi": 120, "bbox_inches": "tight"}
    write_atomically(path, lambda file: figure.savefig(file, **options))
    plt.close(figure)


def _axes(title: str, width: float = 7.5, height: float = 4.6) -> tuple[plt.Figure, plt.Axes]:
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _ap_over_frequency(report: Report) -> plt.Figure:
    """Each category as a point; the line is the mean of bins of about equally many categories."""
    boxes, ap = report.per_category.num_boxes, report.per_category.figures["AP"]
    measured = boxes > 0
    boxes, ap = boxes[measured], ap[measured]
    figure, axes = _axes(f"AP of {len(ap):,} categories over their boxes ({report.protocol})")
    rng = np.random.default_rng(0)
    spread = boxes * np.exp(rng.uniform(-0.07, 0.07, len(boxes)))
    alpha = float(np.clip(300 / max(len(ap), 1), 0.06, 0.7))
    frequency = report.truth.frequency
    colours: Any = _COLOURS["all"]
    if frequency is not None:
        colours = [_COLOURS[f] for f in np.array(frequency)[measured]]
    axes.scatter(spread, ap, s=10, c=colours, alpha=alpha, linewidths=0)
    bins = _bins_of(boxes)
    centres = [np.exp(np.log(boxes[one]).mean()) for one in bins]
    means = [ap[one].mean() for one in bins]
    axes.plot(centres, means, color="black", linewidth=2, marker="o", markersize=4, label="mean")
    if frequency is not None:
        for letter, name in _BANDS.items():
            if letter in np.array(frequency)[measured]:
                axes.scatter([], [], s=20, c=_COLOURS[letter], label=f"{name} in training")
    axes.set_xscale("log")
    plain = matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:,g}")
    steps = (1, 2, 5) if boxes.max(initial=1) < 1000 * boxes.min(initial=1000) else (1,)
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set(xlabel="boxes of the category", ylabel="AP", ylim=(-2, 102))
    axes.set_xlim(0.8 * boxes.min(initial=1), 1.25 * boxes.max(initial=1))  # no ticks below 1
    axes.legend(frameon=False, loc="best")
    return figure


def _bins_of(values: np.ndarray) -> list[np.ndarray]:
    """Places of about equally many values, ascending; equal values are in one bin."""
    ordered = np.sort(values)
    starts = [part[0] for part in np.array_split(ordered, min(_MOST_BINS, len(ordered) // 8) or 1)]
    places = np.searchsorted(np.unique(starts), values, side="right")
    return [np.flatnonzero(places == place) for place in np.unique(places)]


def _precision_recall(report: Report) -> plt.Figure:
    """The mean curve over categories at several IoUs, and by frequency."""
    recalls = report.rules.recall_thresholds
    best = report.curves.precision[:, 0, -1]  # (K, T, R)
    measured = report.curves.recall[:, 0, -1, 0] > -1
    figure, axes = _axes(f"Precision over recall, mean over categories ({report.protocol})")
    thresholds = report.rules.iou_thresholds
    if measured.any():
        for step, style in ((0, "-"), (5, "--"), (len(thresholds) - 1, ":")):
            label = f"IoU {thresholds[step]:.2f}"
            curve = 100 * best[measured, step].mean(0)
            axes.plot(100 * recalls, curve, style, color="black", label=label)
        frequency = report.truth.frequency
        for letter, name in _BANDS.items() if frequency is not None else ():
            chosen = measured & (np.array(frequency) == letter)
            if chosen.any():
                curve = 100 * best[chosen, 0].mean(0)
                axes.plot(100 * recalls, curve, color=_COLOURS[letter], label=f"IoU 0.50, {name}")
    axes.set(xlabel="recall in %", ylabel="precision in %", xlim=(0, 100), ylim=(0, 102))
    axes.legend(frameon=False)
    return figure


_ERROR_NAMES = {
    "localisation": "localisation\n(IoU 0.1 to 0.5)",
    "confusion_sibling": "confused with\na sibling",
    "confusion_ancestor": "confused with\nan ancestor",
    "confusion_other": "confused with\nanother category",
    "duplicate": "duplicate",
    "background": "background",
    "confusion_and_localisation": "confused and\nbadly placed",
    "missed": "missed boxes",
}


def _errors(errors: ErrorBreakdown) -> plt.Figure:
    """By how much AP50 would rise without each kind of error, and how many there are."""
    kinds = list(_ERROR_NAMES)[::-1]
    figure, axes = _axes(f"Errors: what AP50 ({errors.ap50:.1f}) would gain without them", 8.2, 5)
    gains = np.array([errors.ap50_gain[kind] for kind in kinds])
    bars = axes.barh([_ERROR_NAMES[k] for k in kinds], gains, color="#2c5f8a", height=0.62)
    for bar, kind in zip(bars, kinds, strict=True):
        unit = "boxes" if kind == "missed" else "detections"
        text = f" +{errors.ap50_gain[kind]:.1f}   {errors.counts[kind]:,} {unit}"
        middle = bar.get_y() + bar.get_height() / 2
        axes.text(max(bar.get_width(), 0), middle, text, va="center", fontsize=8.5)
    axes.set(xlabel="gain in AP50", xlim=(min(0, gains.min() * 1.1), max(gains.max(), 1) * 1.45))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", labelsize=8.5)
    return figure


def branch_categories(tree: Mapping[str, Any], category_ids: list[int]) -> dict[str, list[int]]:
    """Branch name -> rows of the categories in it.

    The branches are the nodes of the first level that has several: the roots, or what lies below a
    single root.
    """
    children: Mapping[str, list[str]] = tree["father2child"]
    rows_of: dict[str, list[int]] = {}
    for row, one in enumerate(category_ids):
        rows_of.setdefault(str(tree["categoryid2treeid"][str(one)]), []).append(row)
    below = {child for row in children.values() for child in row}
    branches = [node for node in children if node not in below]
    while len(branches) == 1 and any(child in children for child in children[branches[0]]):
        branches = [child for child in children[branches[0]] if child in children]
    names = tree.get("id2name", {})
    found: dict[str, list[int]] = {}
    for branch in dict.fromkeys(branches):
        nodes, waiting = {branch}, [branch]
        while waiting:
            fresh = [c for c in children.get(waiting.pop(), ()) if c not in nodes]
            nodes.update(fresh)
            waiting += fresh
        rows = sorted(row for node in nodes for row in rows_of.get(node, ()))
        found[f"{names.get(branch, branch)}"] = rows
    return found


def _tree_branches(report: Report, tree_file: Path) -> plt.Figure:
    """The branches by mean AP; of very many the best and the worst."""
    tree = json.loads(tree_file.read_text(encoding="utf-8"))
    ap = report.per_category.figures["AP"]
    branches = []
    for name, rows in branch_categories(tree, report.truth.category_ids.tolist()).items():
        values = ap[rows][ap[rows] > -1]
        if len(values):
            branches.append((float(values.mean()), len(values), name, values))
    if len(branches) > 2 * _SHOWN_BRANCHES:
        branches = [branch for branch in branches if branch[1] >= _SMALLEST_BRANCH]
    branches.sort(key=lambda branch: branch[0])
    shown = branches
    if len(branches) > 2 * _SHOWN_BRANCHES:
        shown = branches[:_SHOWN_BRANCHES] + branches[-_SHOWN_BRANCHES:]
    height = max(2.0, 0.36 * len(shown) + 1.2)
    title = "Branches of the category tree by mean AP"
    if len(shown) < len(branches):
        title += f" ({len(shown)} of {len(branches)})"
    figure, axes = _axes(title, 8.2, height)
    for place, (mean, count, _, values) in enumerate(shown):
        colour = _COLOURS["all"]
        if len(shown) < len(branches):
            colour = _COLOURS["f" if place >= _SHOWN_BRANCHES else "r"]
        axes.barh(place, mean, color=colour, height=0.62, alpha=0.85)
        low, high = np.percentile(values, [25, 75])
        axes.plot([low, high], [place, place], color="black", linewidth=1.2)
        text = f"{mean:.1f}  ({count} categories)"
        right = axes.get_yaxis_transform()
        axes.text(1.01, place, text, va="center", fontsize=8, transform=right)
    if len(shown) < len(branches):
        axes.axhline(_SHOWN_BRANCHES - 0.5, color="black", linewidth=0.8, linestyle="--")
    names = [textwrap.shorten(name, 34, placeholder="…") for _, _, name, _ in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8.5)
    highest = max((float(np.percentile(v, 75)) for *_, v in shown), default=100)
    axes.set(xlim=(0, min(100, 1.05 * highest + 1)), ylim=(-0.6, max(len(shown), 1) - 0.4))
    axes.set(xlabel="mean AP (categories with boxes); line: middle half of them")
    axes.grid(False, axis="y")
    if not shown:
        axes.text(50, 0, "no branch has a category with boxes", ha="center")
    return figure
