"""From the words of a command line to a protocol, a tree and a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from ..annotations.vocabularies import hierarchy_from_file
from ..structures import CategoryHierarchy
from .columns import GroundTruth
from .figures import Report
from .protocols import (
    CocoProtocol,
    EvaluationProtocol,
    LvisFixedProtocol,
    LvisProtocol,
    V3DetProtocol,
)

PROTOCOLS = ("v3det", "lvis", "lvis-fixed", "coco")


def make_protocol(
    name: str, max_dets: int | None, hierarchy: CategoryHierarchy | None
) -> EvaluationProtocol:
    """The protocol of the command line."""
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
