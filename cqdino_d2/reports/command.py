"""Scores the results file of any detector by V3Det's, LVIS' or COCO's rules.

Example:
    cqdino-evaluate --protocol v3det \\
        --annotations v3det_2023_v1_val.json --results results.json \\
        --category-tree v3det_2023_v1_category_tree.json \\
        --output metrics.json --per-category categories.csv --plots plots

Results are a COCO results file (.json) or its columns image_id, category_id, bbox, score (.npz,
.parquet). All figures are in 0..100; -1 stands for figures without ground truth. Neither torch nor
Detectron2 is needed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

from ..evaluation import Report, score
from ..evaluation.scoring import PROTOCOLS, category_table, v3det_tree
from ..files import require_package, write_text
from ..structures import log_to_terminal, one_line

BAD_INPUT = 2
_HEADLINES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
_MORE_HEADLINES = ("AP_base", "AP_novel", "AP_ovd")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--annotations", type=Path, required=True, metavar="GT.json")
    parser.add_argument(
        "--results", type=Path, required=True, metavar="FILE", help=".json, .npz or .parquet"
    )
    parser.add_argument(
        "--category-tree",
        type=Path,
        metavar="TREE",
        help="V3Det's JSON, the released table (.csv) or 'parent child' per line; needed for "
        "v3det, else for AP by depth and (JSON) the plot of the branches",
    )
    parser.add_argument(
        "--max-dets",
        type=int,
        metavar="N",
        help="detections that count: per image and category (coco: 100, v3det: 300), per image "
        "(lvis: 300) or per category (lvis-fixed: 10000)",
    )
    parser.add_argument("--output", type=Path, metavar="METRICS.json", help="one flat dict")
    parser.add_argument("--per-category", type=Path, metavar="OUT.csv")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="PNGs, and an error breakdown")
    given = parser.parse_args(arguments)
    if given.protocol == "v3det" and given.category_tree is None:
        parser.error("--protocol v3det needs --category-tree (without it use --protocol coco)")
    if given.max_dets is not None and given.max_dets < 1:
        parser.error(f"--max-dets must be positive, got {given.max_dets}")
    return given


def show(report: Report, seconds: float) -> None:
    """Prints the figures."""
    figures = report.figures
    names = [n for n in (*_HEADLINES, *_MORE_HEADLINES) if n in figures]
    names += [n for n in figures if n.startswith("AR") and "_" not in n and "@" in n]
    _say(f"{report.protocol}, {len(report.truth.image_ids)} images, {seconds:.1f} s")
    for name in names:
        value = figures[name]
        _say(f"  {name:10s}{value:8.2f}" if value > -1 else f"  {name:10s}       -")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main(arguments: list[str] | None = None) -> int:
    """Evaluates; 2 is the exit code for bad input, and for a package that is missing."""
    given = parse_arguments(arguments)
    log_to_terminal("%(levelname)s: %(message)s", logging.INFO)
    started = time.monotonic()
    try:
        run(given, started)
    except (ValueError, OSError, MemoryError, ModuleNotFoundError) as error:
        sys.stderr.write(f"error: {one_line(str(error)) or 'not enough memory'}\n")
        return BAD_INPUT
    return 0


def run(given: argparse.Namespace, started: float) -> None:
    """What the command line asks for."""
    if given.plots is not None:
        require_package("matplotlib", "--plots", ["matplotlib"])
    scores = score(
        given.annotations,
        given.results,
        protocol=given.protocol,
        category_tree=given.category_tree,
        max_dets=given.max_dets,
        errors=given.plots is not None,
    )
    show(scores.report, time.monotonic() - started)
    if scores.errors is not None:
        from .plots import draw_all

        tree = v3det_tree(given.category_tree)
        for path in draw_all(scores.report, scores.errors, tree, given.plots):
            _say(f"  {path}")
    if given.per_category is not None:
        write_text(given.per_category, category_table(scores.report))
    if given.output is not None:
        write_text(given.output, json.dumps(scores.metrics, indent=2) + "\n")
