"""Files in, figures out: what the commands ask for."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..annotations.vocabularies import hierarchy_from_file
from ..structures import CategoryHierarchy
from .annotation_file import load_ground_truth
from .columns import GroundTruth
from .error_breakdown import ErrorBreakdown, break_down_errors
from .figures import Report
from .protocols import (
    CocoProtocol,
    EvaluationProtocol,
    LvisFixedProtocol,
    LvisProtocol,
    V3DetProtocol,
)
from .results_file import load_results

PROTOCOLS = ("v3det", "lvis", "lvis-fixed", "coco")


def make_protocol(
    name: str, max_dets: int | None, hierarchy: CategoryHierarchy | None
) -> EvaluationProtocol:
    """A protocol by its name.

    Args:
        name: one of `PROTOCOLS`.
        max_dets: detections that count, 1 or more; None for the protocol's own number.
        hierarchy: over the annotations' categories; V3Det's protocol needs one.

    Raises:
        ValueError: no such protocol, a number below 1, or no tree where one is needed.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {PROTOCOLS}, got {name!r}")
    if max_dets is not None and max_dets < 1:
        raise ValueError(f"max_dets must be positive, got {max_dets}")
    if name == "v3det" and hierarchy is None:
        raise ValueError("the protocol v3det needs a category tree (without one use coco)")
    if name == "coco":
        limit = max_dets or 100
        limits = (*(n for n in (1, 10) if n < limit), limit)
        return CocoProtocol(hierarchy=hierarchy, max_dets=limits)
    kinds = {
        "v3det": V3DetProtocol,
        "lvis": LvisProtocol,
        "lvis-fixed": LvisFixedProtocol,
    }
    limit = {} if max_dets is None else {"max_dets": max_dets}
    return kinds[name](hierarchy=hierarchy, **limit)


@dataclass(frozen=True)
class Scores:
    """What a results file is worth.

    Attributes:
        report: the figures, overall and by category.
        errors: what kinds of errors cost, if it was asked for.
    """

    report: Report
    errors: ErrorBreakdown | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """All figures in one flat dict, 0..100; -1 stands for those without ground truth."""
        metrics: dict[str, float] = dict(self.report.figures)
        if self.errors is not None:
            metrics |= {f"errors_{kind}": count for kind, count in self.errors.counts.items()}
            metrics |= {f"AP50_gain_{kind}": gain for kind, gain in self.errors.ap50_gain.items()}
        return metrics


def score(
    annotations: str | Path,
    results: str | Path,
    *,
    protocol: str = "coco",
    category_tree: str | Path | None = None,
    max_dets: int | None = None,
    errors: bool = False,
) -> Scores:
    """Scores the results file of any detector.

    Args:
        annotations: in COCO's, LVIS' or V3Det's form.
        results: a COCO results file (.json) or its columns (.npz, .parquet).
        protocol: one of `PROTOCOLS`.
        category_tree: see `read_tree`; 'v3det' needs it, the others then give AP by depth.
        max_dets: detections that count, None for the protocol's own number.
        errors: whether to sort what is wrong, which takes about as long again.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file or an argument cannot be used; says why.
    """
    truth = load_ground_truth(Path(annotations))
    hierarchy = read_tree(None if category_tree is None else Path(category_tree), truth)
    rules = make_protocol(protocol, max_dets, hierarchy)
    detections = load_results(Path(results), truth)
    matched = rules.match(truth, detections)
    if not errors:
        del detections  # makes room for the curves
        return Scores(rules.report(truth, matched))
    return Scores(rules.report(truth, matched), break_down_errors(rules, truth, detections))


def read_tree(path: Path | None, truth: GroundTruth) -> CategoryHierarchy | None:
    """The category tree over the annotations' categories; an edge list may name or number them."""
    if path is None:
        return None
    ids = truth.category_ids.tolist()
    if path.suffix.lower() in (".json", ".csv"):
        return hierarchy_from_file(path, ids)
    try:
        return hierarchy_from_file(path, ids)
    except ValueError as by_id:
        if "names none of the" not in str(by_id):
            raise
        return hierarchy_from_file(path, ids, category_nodes=truth.names)


def v3det_tree(path: Path | None) -> Path | None:
    """The tree file, if it is one with V3Det's tables."""
    return path if path is not None and path.suffix.lower() == ".json" else None


def category_table(report: Report) -> str:
    """One line per category, as CSV."""
    truth, per = report.truth, report.per_category
    columns: dict[str, list[Any]] = {
        "category_id": truth.category_ids.tolist(),
        "name": list(truth.names),
    }
    if truth.frequency is not None:
        columns["frequency"] = list(truth.frequency)
    if truth.novel is not None:
        columns["novel"] = truth.novel.astype(int).tolist()
    if report.hierarchy is not None:
        columns["depth"] = report.hierarchy.levels[: len(truth.names)].tolist()
    columns["images"] = per.num_images.tolist()
    columns["boxes"] = per.num_boxes.tolist()
    columns["detections"] = per.num_detections.tolist()
    columns |= {name: values.tolist() for name, values in per.figures.items()}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return file.getvalue()
