"""Laws of growth, fitted to measured points, and their plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cqdino_d2.files import write_atomically

LEAST_POINTS = 4
FLAT = 0.05  # of the last value: what grows by less over the points is not told from noise
NOTHING = 1e-6  # of the least value: a constant below it is left out


@dataclass(frozen=True)
class Law:
    """a x^b + c."""

    a: float
    b: float
    c: float

    def at(self, x: np.ndarray) -> np.ndarray:
        """Its values."""
        return self.a * np.asarray(x, float) ** self.b + self.c

    def text(self, unit: str) -> str:
        """For people."""
        if self.a == 0:
            return f"{self.c:.3g} {unit}, constant"
        constant = f" + {self.c:.3g}" if self.c else ""
        return f"{self.a:.3g} x^{self.b:.2f}{constant} {unit}"


def fit(xs: Sequence[float], ys: Sequence[float]) -> Law | None:
    """The law with the least sum of squared relative errors, a and c at least 0, b in 0.05..3.

    For each exponent of a fine grid the best a and c are those of a linear problem of two
    unknowns. A law that grows by less than 5 % over the points is given as a constant.

    Returns:
        None for fewer than four points, or points that are not all positive.
    """
    x, y = np.asarray(xs, float), np.asarray(ys, float)
    if len(x) < LEAST_POINTS or (x <= 0).any() or (y <= 0).any():
        return None
    constant = Law(0.0, 1.0, float((1 / y).sum() / (1 / y**2).sum()))
    best, least = constant, _error(constant, x, y)
    for b in np.arange(0.05, 3.0001, 0.01):
        for law in _linear(x**b, y, float(b)):
            error = _error(law, x, y)
            if error < least:
                best, least = law, error
    if best.at(x.max()) - best.at(x.min()) < FLAT * best.at(x.max()):
        return constant
    return best


def _error(law: Law, x: np.ndarray, y: np.ndarray) -> float:
    """Sum of the squared relative errors."""
    return float((((law.at(x) - y) / y) ** 2).sum())


def _linear(powers: np.ndarray, y: np.ndarray, b: float) -> list[Law]:
    """Candidates for one exponent: both terms where neither is negative, and the power alone."""
    weighted = np.stack([powers / y, 1 / y], axis=1)
    (a, c), *_ = np.linalg.lstsq(weighted, np.ones(len(y)), rcond=None)
    alone = weighted[:, 0].sum() / (weighted[:, 0] ** 2).sum()
    laws = [Law(float(alone), b, 0.0)]
    return [*laws, Law(float(a), b, float(c))] if a > 0 and c > NOTHING * y.min() else laws


def plot(points: Sequence[dict[str, Any]], label: str, path: Path) -> None:
    """Time and memory over x with their laws, as an SVG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    x = np.array([point["x"] for point in points], float)
    line = np.geomspace(x.min(), x.max(), 60)
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 9}):
        figure, axes = pyplot.subplots(1, 2, figsize=(7.5, 2.8), layout="constrained")
        for axis, (key, scale, unit, name) in zip(axes, QUANTITIES, strict=True):
            y = np.array([point[key] for point in points], float) * scale
            axis.plot(x, y, "o", color="#1f5f99", markersize=4)
            law = fit(x, y)
            if law is not None:
                axis.plot(line, law.at(line), color="#c05020", linewidth=1)
                axis.set_title(law.text(unit), fontsize=9)
            axis.set(xlabel=label, ylabel=f"{name}, {unit}", xscale="log", ylim=(0, None))
        write_atomically(
            path, lambda file: figure.savefig(file, format="svg", metadata={"Date": None})
        )
        pyplot.close(figure)


QUANTITIES = (("seconds", 1.0, "s", "CPU time"), ("bytes", 2.0**-20, "MiB", "memory"))
