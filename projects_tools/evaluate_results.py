"""Scores the results file of any detector by V3Det's, LVIS' or COCO's rules.

Example:
    python projects_tools/evaluate_results.py --protocol v3det \\
        --annotations v3det_2023_v1_val.json --results results.json \\
        --category-tree v3det_2023_v1_category_tree.json \\
        --output metrics.json --per-category categories.csv --plots plots

Results are a COCO results file (.json) or its columns image_id, category_id, bbox, score (.npz,
.parquet). All figures are in 0..100; -1 stands for figures without ground truth.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from cqdino_d2.evaluation import GroundTruth, Report
    from cqdino_d2.structures import CategoryHierarchy

BAD_INPUT = 2
PROTOCOLS = ("v3det", "lvis", "lvis-fixed", "coco")
_HEADLINES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
_MORE_HEADLINES = ("AP_base", "AP_novel", "AP_ovd")


def import_parts_alone() -> None:
    """Lets the package's parts be imported without the package's own imports.

    Those load Detectron2 and torchvision to register the detector, which costs more time and
    memory than some evaluations and is not needed to score a file.
    """
    for name in ("cqdino_d2", "cqdino_d2.data"):
        module = ModuleType(name)
        module.__path__ = [str(ROOT.joinpath(*name.split(".")))]
        sys.modules[name] = module


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


def make_protocol(name: str, max_dets: int | None, hierarchy: CategoryHierarchy | None) -> Any:
    """The protocol of the command line."""
    from cqdino_d2 import evaluation

    if name == "coco":
        limit = max_dets or 100
        limits = (*(n for n in (1, 10) if n < limit), limit)
        return evaluation.CocoProtocol(hierarchy=hierarchy, max_dets=limits)
    kinds = {
        "v3det": evaluation.V3DetProtocol,
        "lvis": evaluation.LvisProtocol,
        "lvis-fixed": evaluation.LvisFixedProtocol,
    }
    limit = {} if max_dets is None else {"max_dets": max_dets}
    return kinds[name](hierarchy=hierarchy, **limit)


def read_tree(path: Path | None, truth: GroundTruth) -> CategoryHierarchy | None:
    """The category tree over the annotations' categories; an edge list may name or number them."""
    if path is None:
        return None
    from cqdino_d2.data.vocabularies import hierarchy_from_file

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


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    from cqdino_d2.structures import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(text.encode()))


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


def show(report: Report, seconds: float) -> None:
    """Prints the figures."""
    figures = report.figures
    names = [n for n in (*_HEADLINES, *_MORE_HEADLINES) if n in figures]
    names += [n for n in figures if n.startswith("AR") and "_" not in n and "@" in n]
    print(f"{report.protocol}, {len(report.truth.image_ids)} images, {seconds:.1f} s")
    for name in names:
        value = figures[name]
        print(f"  {name:10s}{value:8.2f}" if value > -1 else f"  {name:10s}       -")


def main(arguments: list[str] | None = None) -> int:
    """Evaluates; 2 is the exit code for bad input."""
    given = parse_arguments(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    started = time.monotonic()
    try:
        run(given, started)
    except (ValueError, OSError, MemoryError) as error:
        print(f"error: {error or 'not enough memory'}", file=sys.stderr)
        return BAD_INPUT
    return 0


def run(given: argparse.Namespace, started: float) -> None:
    """What the command line asks for."""
    from cqdino_d2.evaluation import break_down_errors, load_ground_truth, load_results

    truth = load_ground_truth(given.annotations)
    hierarchy = read_tree(given.category_tree, truth)
    protocol = make_protocol(given.protocol, given.max_dets, hierarchy)
    detections = load_results(given.results, truth)
    matched = protocol.match(truth, detections)
    if given.plots is None:
        del detections  # makes room for the curves
    report = protocol.report(truth, matched)
    metrics: dict[str, float] = dict(report.figures)
    show(report, time.monotonic() - started)
    if given.plots is not None:
        from projects_tools.evaluation_plots import draw_all

        errors = break_down_errors(protocol, truth, detections)
        metrics |= {f"errors_{kind}": count for kind, count in errors.counts.items()}
        metrics |= {f"AP50_gain_{kind}": gain for kind, gain in errors.ap50_gain.items()}
        for path in draw_all(report, errors, v3det_tree(given.category_tree), given.plots):
            print(f"  {path}")
    if given.per_category is not None:
        write_text(given.per_category, category_table(report))
    if given.output is not None:
        write_text(given.output, json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    import_parts_alone()
    sys.exit(main())
