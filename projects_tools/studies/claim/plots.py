"""The plots of `study.py claim`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from studies.claim.keys import VARIANTS, Runs, select, vocabularies
from studies.claim.regimes import regime_of
from studies.claim.verdict import mean_interval

_SHADES = "black", "#b3b3b3", "#66a61e", "#7570b3", "#d95f02", "#1f78b4"
_COLOURS = dict(zip(VARIANTS, _SHADES, strict=True))
_CURVES = {
    "gradient/positive_to_negative": "positive / negative gradient",
    "gradient/hard_share": "hard share of the negative gradient",
}


def draw_all(runs: Runs, folder: Path) -> None:
    """Writes ``ap_over_vocabulary.png``, ``ap.png`` and ``gradients.png``."""
    draw_ap_over_vocabulary(runs, folder / "ap_over_vocabulary.png")
    draw_ap(runs, folder / "ap.png")
    draw_gradients(runs, folder / "gradients.png")


def draw_ap_over_vocabulary(runs: Runs, path: Path) -> None:
    """AP over the number of categories: a line of means per variant, bars for 95 % intervals."""
    figure, axes = plt.subplots(figsize=(6.4, 3.8), dpi=130)
    for variant in VARIANTS:
        sizes = [n for n in vocabularies(runs) if select(runs, categories=n, variant=variant)]
        seeds = [
            [one["figures"]["AP"] for one in select(runs, categories=n, variant=variant)]
            for n in sizes
        ]
        if not sizes:
            continue
        means = [statistics.fmean(values) for values in seeds]
        reach = [mean - mean_interval(values)[0] for mean, values in zip(means, seeds, strict=True)]
        reach = [0.0 if math.isinf(one) else one for one in reach]
        style = {"color": _COLOURS[variant], "marker": "o", "ms": 4, "lw": 1.8, "capsize": 4}
        axes.errorbar(sizes, means, reach, label=VARIANTS[variant], **style)
    axes.set_xscale("log")
    axes.set_xticks(vocabularies(runs), [f"{n:,}" for n in vocabularies(runs)])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"{regime_of(runs).noun} in the vocabulary")
    axes.set_ylabel("AP on held-out images")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def draw_ap(runs: Runs, path: Path) -> None:
    """AP and its parts by frequency: a panel per vocabulary, a dot per run, a bar per mean."""
    sizes, noun = vocabularies(runs), regime_of(runs).noun
    names = ("AP", "APr", "APc", "APf")
    figure, panels = plt.subplots(
        1, len(sizes), figsize=(4.6 * len(sizes), 3.8), dpi=130, squeeze=False
    )
    for axes, categories in zip(panels[0], sizes, strict=True):
        shown = [name for name in VARIANTS if select(runs, categories=categories, variant=name)]
        width = 0.8 / len(shown)
        for index, variant in enumerate(shown):
            for place, name in enumerate(names):
                values = [
                    one["figures"][name]
                    for one in select(runs, categories=categories, variant=variant)
                ]
                values = [value for value in values if value is not None]
                if not values:
                    continue
                x = place + (index - (len(shown) - 1) / 2) * width
                label = VARIANTS[variant] if place == 0 else None
                colour = _COLOURS[variant]
                axes.bar(x, statistics.fmean(values), 0.9 * width, color=colour, label=label)
                axes.plot([x] * len(values), values, "o", ms=3, mfc="white", mec="0.2", mew=0.8)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(bottom=0)
        axes.set_title(f"{categories} {noun}", fontsize=10)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    panels[0][0].set_ylabel("AP on held-out images")
    _legend_below(figure, panels[0])
    figure.savefig(path)
    plt.close(figure)


def draw_gradients(runs: Runs, path: Path) -> None:
    """The balance of the gradients over the training, smoothed, mean of the seeds."""
    sizes, noun = vocabularies(runs), regime_of(runs).noun
    figure, panels = plt.subplots(
        len(_CURVES), len(sizes), figsize=(4.6 * len(sizes), 5.6), dpi=130, squeeze=False
    )
    for row, (curve, title) in zip(panels, _CURVES.items(), strict=True):
        for axes, categories in zip(row, sizes, strict=True):
            for variant in VARIANTS:
                _draw_mean(
                    axes, select(runs, categories=categories, variant=variant), curve, variant
                )
            axes.set_xlim(left=0)
            axes.set_xlabel("step")
            axes.set_title(f"{categories} {noun}", fontsize=10)
            axes.grid(alpha=0.3)
        row[0].set_ylabel(title, fontsize=8)
    for axes in panels[0]:
        axes.axhline(1, color="0.6", lw=0.8, ls=":")
        axes.set_ylim(0, 3)
    for axes in panels[1]:
        axes.set_ylim(0, 1)
    _legend_below(figure, panels[0])
    figure.savefig(path)
    plt.close(figure)


def _draw_mean(axes: Axes, runs: Runs, curve: str, variant: str, window: int = 5) -> None:
    """Mean over the runs of their common steps, then over `window` neighbours."""
    rows = [
        dict(zip(*one["curves"][curve].values(), strict=True))
        for one in runs
        if curve in one["curves"]
    ]
    if not rows:
        return
    steps = sorted(set.intersection(*(set(row) for row in rows)))
    mean = np.array([statistics.fmean(row[step] for row in rows) for step in steps])
    if len(mean) >= window:
        mean = np.convolve(mean, np.ones(window) / window, "valid")
        steps = steps[window // 2 : window // 2 + len(mean)]
    axes.plot(steps, mean, color=_COLOURS[variant], lw=1.5, label=VARIANTS[variant])


def _legend_below(figure: plt.Figure, row: Sequence[Axes]) -> None:
    """One legend for all panels."""
    found: dict[str, Any] = {}
    for axes in row:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    columns = min(3, max(1, len(found)))
    figure.legend(found.values(), found.keys(), loc="lower center", ncols=columns, fontsize=8)
