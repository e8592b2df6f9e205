"""Draws how cost grows, fits a law to measured points: docs/benchmarks/how_cost_grows.json.

The law is ``a * x ** b + c`` by least squares of relative errors, with 0.2 <= b <= 3.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from benchmarks.doc_tables import DOCS, write_page

from cqdino_d2.files.atomic_file import write_text

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FILE = "how_cost_grows.json"


def fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Fits a, b and c of ``a * x ** b + c``.

    Raises:
        ValueError: fewer than four points, which such a law passes through whatever they are.
    """
    if len(x) < 4:
        raise ValueError(f"{len(x)} points, a law of three parameters needs at least 4")
    at, values = np.asarray(x, float), np.asarray(y, float)
    scale = at.max()
    best = (np.inf, 0.0, 1.0, 0.0)
    for power in np.arange(0.2, 3.0001, 0.01):
        terms = np.stack([(at / scale) ** power, np.ones_like(at)], axis=1) / values[:, None]
        solved = np.linalg.lstsq(terms, np.ones_like(values), rcond=None)[0]
        error = float(((terms @ solved - 1) ** 2).sum())
        if error < best[0]:
            best = (error, solved[0] / scale**power, float(power), solved[1])
    return tuple(float(number) for number in best[1:])


def law(a: float, b: float, c: float) -> str:
    """As the table shows it."""
    return f"{a:.3g} x^{b:.2f} {'+' if c >= 0 else '-'} {abs(c):.3g}"


def laws_table(series: list[dict]) -> dict:
    """The fitted law of every series, and how far its worst point lies from it."""
    rows = []
    for one in series:
        x, y = zip(*one["points"], strict=True)
        a, b, c = fit(x, y)
        off = max(abs(a * p**b + c - q) / q for p, q in zip(x, y, strict=True))
        points = f"{len(x)}, {min(x):,} to {max(x):,}"
        rows.append([one["name"], one["over"], one["unit"], points, law(a, b, c), f"{off:.1%}"])
    head = ["what", "over x", "unit", "points", "law", "worst point is off by"]
    return {"recorded": True, "head": head, "rows": rows}


def draw(series: list[dict], file: Path) -> None:
    """One panel for each unit: points, and the fitted law as a line."""
    units = list(dict.fromkeys(one["unit"] for one in series))
    figure, panels = plt.subplots(1, len(units), figsize=(4.5 * len(units), 3.4), squeeze=False)
    for unit, panel in zip(units, panels[0], strict=True):
        for one in (one for one in series if one["unit"] == unit):
            x, y = zip(*one["points"], strict=True)
            a, b, c = fit(x, y)
            line = np.linspace(min(x), max(x), 200)
            (drawn,) = panel.plot(line, a * line**b + c, linewidth=1)
            panel.plot(x, y, "o", markersize=4, color=drawn.get_color(), label=one["name"])
        panel.set(xlabel=one["over"], ylabel=unit, ylim=(0, None))
        panel.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Writes the table of laws and the plot beside the page."""
    parser = argparse.ArgumentParser(prog="benchmark.py growth", description=__doc__)
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="DIR")
    docs = parser.parse_args(arguments).docs
    stored = json.loads((docs / FILE).read_text("utf-8"))
    stored["tables"] = {"laws": laws_table(stored["series"])}
    write_text(docs / FILE, json.dumps(stored, indent=1) + "\n")
    draw(stored["series"], docs / "how_cost_grows.png")
    page = docs / "how_cost_grows.md"
    write_text(page, write_page(page, docs))
    return 0
