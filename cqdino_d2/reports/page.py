"""The page of a report: one HTML file that opens from disk and loads nothing but its images."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from ..evaluation import ErrorBreakdown, Report
from ..evaluation.error_breakdown import KINDS
from .examples import Branches, Confusions, SiblingGroup

_PARTS = Path(__file__).with_name("page_parts")
_MEANINGS = {
    "localisation": "the right category, the box badly placed (IoU 0.1 to 0.5)",
    "confusion_sibling": "well placed, but named as a category with the same parent",
    "confusion_ancestor": "well placed, but named too generally",
    "confusion_other": "well placed, but named as some other category",
    "duplicate": "a box that was found already",
    "background": "nothing there (IoU below 0.1)",
    "confusion_and_localisation": "another category and badly placed",
    "missed": "boxes that no detection hits or is about",
}
TITLES = {kind: kind.replace("_", " ").replace("confusion ", "confusion: ") for kind in KINDS} | {
    "confusion_and_localisation": "confusion and localisation",
    "missed": "missed boxes",
}
_HEADLINES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf", "AP_base", "AP_novel")


@dataclass(frozen=True)
class Figure:
    """An image of the page: its path from the page, and the lines below it."""

    file: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Images under a heading."""

    anchor: str
    title: str
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Content:
    """All that the page shows.

    Attributes:
        title: heading.
        facts: lines below it.
        report: the figures.
        errors: what kinds of errors cost.
        threshold: confidence threshold of detections that are shown and counted in confusions.
        node_names: of the N nodes of the tree (at least of the V categories).
        branches: by node, or None without a tree.
        confusions: of the detections above the threshold.
        siblings: the families that are confused most.
        plots: paths from the page.
        galleries: images.
        pictured: category -> anchor of its gallery.
    """

    title: str
    facts: Sequence[str]
    report: Report
    errors: ErrorBreakdown
    threshold: float
    node_names: Sequence[str]
    branches: Branches | None
    confusions: Confusions
    siblings: Sequence[SiblingGroup]
    plots: Sequence[str]
    galleries: Sequence[Gallery]
    pictured: dict[int, str] = field(default_factory=dict)


def _rounded(values: np.ndarray) -> list[float | None]:
    """One decimal; None for what was not measured."""
    return [None if value < 0 else round(value, 1) for value in values.tolist()]


def _columns(content: Content) -> list[dict[str, Any]]:
    """The columns of the table of categories, each with its V values."""
    report = content.report
    per, truth = report.per_category, report.truth
    columns: list[dict[str, Any]] = [{"label": "id", "values": truth.category_ids.tolist()}]
    if truth.frequency is not None:
        columns.append({"label": "frequency", "values": list(truth.frequency)})
    for name in ("AP", "AP50", "AP75", "AR"):
        columns.append({"label": name, "decimals": 1, "values": _rounded(per.figures[name])})
    for label, values in (
        ("boxes", per.num_boxes),
        ("images", per.num_images),
        ("detections", per.num_detections),
    ):
        columns.append({"label": label, "values": values.tolist()})
    return columns


def _taken_for(content: Content) -> dict[int, list[int]]:
    """Category -> the one its boxes are most often taken for, and how often."""
    most: dict[int, list[int]] = {}
    found = content.confusions
    triples = (found.true.tolist(), found.predicted.tolist(), found.counts.tolist())
    for true, predicted, count in zip(*triples, strict=True):
        most.setdefault(true, [predicted, count])
    return most


def _tree(content: Content) -> dict[str, Any] | None:
    branches, hierarchy = content.branches, content.report.hierarchy
    if branches is None or hierarchy is None:
        return None
    return {
        "parents": [hierarchy.parents[node].tolist() for node in range(hierarchy.num_nodes)],
        "ap": _rounded(branches.ap),
        "categories": branches.categories.tolist(),
        "boxes": branches.boxes.tolist(),
    }


def script_json(value: Any) -> Markup:
    """JSON that may stand in a script element: no text in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&\u2028\u2029":  # these stand in strings alone
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _error_rows(errors: ErrorBreakdown) -> list[dict[str, Any]]:
    most = max([*errors.ap50_gain.values(), 1e-9])
    return [
        {
            "kind": kind,
            "title": TITLES[kind],
            "meaning": _MEANINGS[kind],
            "count": errors.counts[kind],
            "gain": errors.ap50_gain[kind],
            "share": max(0, round(100 * errors.ap50_gain[kind] / most)),
        }
        for kind in KINDS
    ]


def _matrices(content: Content) -> list[dict[str, Any]]:
    """Each family with its cells: text, and how dark they are (0..1 of the row)."""
    found = []
    for group in content.siblings:
        names = [content.node_names[category] for category in group.categories]
        rows = []
        for place, (name, counts) in enumerate(zip(names, group.matrix.tolist(), strict=True)):
            total = max(sum(counts), 1)
            cells = [
                {"count": count, "share": math.sqrt(count / total), "hit": column == place}
                for column, count in enumerate(counts)
            ]
            rows.append({"name": name, "cells": cells})
        found.append(
            {
                "parent": content.node_names[group.parent],
                "confusions": group.confusions,
                "names": names,
                "rows": rows,
            }
        )
    return found


def _figure_text(value: float) -> str:
    return f"{value:.1f}" if value > -1 else "-"


def render(content: Content) -> str:
    """The HTML text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PARTS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = content.report.figures
    data = {
        "names": list(content.node_names),
        "columns": _columns(content),
        "takenFor": _taken_for(content),
        "pictured": content.pictured,
        "tree": _tree(content),
    }
    return environment.get_template("page.html").render(
        content=content,
        headlines=[(n, _figure_text(figures[n])) for n in _HEADLINES if n in figures],
        errors=_error_rows(content.errors),
        matrices=_matrices(content),
        data=script_json(data),
        style=Markup((_PARTS / "page.css").read_text(encoding="utf-8")),
        script=Markup((_PARTS / "page.js").read_text(encoding="utf-8")),
    )
