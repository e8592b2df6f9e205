"""Shows what a detector gets right and wrong on a data set: a page that opens from disk.

Examples:
    python projects_tools/visualize_results.py --annotations datasets/own/val.json \\
        --results output/own/coco_instances_results.json --images datasets/own/val --output report
    python projects_tools/visualize_results.py --protocol v3det --images datasets/V3Det \\
        --annotations v3det_2023_v1_val.json --results results.npz \\
        --category-tree v3det_2023_v1_category_tree.json --output report

DIR/index.html gets the figures, what the errors cost, the category tree with AP by branch, which
siblings are taken for each other, a table of all categories, and pictures: ground truth beside
detections of the worst and best images, of each kind of error and of the worst categories. It needs
no network. Without --images it has no pictures. Results are a COCO results file (.json) or its
columns (.npz, .parquet) of any detector.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from evaluate_results import BAD_INPUT, write_text

from cqdino_d2.evaluation.scoring import PROTOCOLS, make_protocol, read_tree, v3det_tree
from cqdino_d2.structures import one_line

if TYPE_CHECKING:
    from cqdino_d2.evaluation import GroundTruth, JudgedDetections, Report
    from cqdino_d2.reports.page import Content, Gallery

_FAMILIES, _CHILDREN = 12, 10


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--annotations", type=Path, required=True, metavar="GT.json")
    parser.add_argument(
        "--results", type=Path, required=True, metavar="FILE", help=".json, .npz or .parquet"
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="what the annotations' file names start from"
    )
    parser.add_argument(
        "--category-tree",
        type=Path,
        metavar="TREE",
        help="V3Det's JSON, the released table (.csv) or a text file with 'parent child' per line",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="coco")
    parser.add_argument(
        "--max-dets", type=int, metavar="N", help="detections that count, as in evaluate_results.py"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.3, help="score from which detections are drawn"
    )
    parser.add_argument(
        "--pictures", type=int, default=8, metavar="N", help="of each kind (default: 8)"
    )
    parser.add_argument(
        "--category-pictures",
        type=int,
        default=8,
        metavar="N",
        help="categories, the worst ones, with three pictures each (default: 8)",
    )
    parser.add_argument(
        "--show-category",
        action="append",
        default=[],
        metavar="NAME|ID",
        help="pictures of this category too; can be repeated",
    )
    given = parser.parse_args(arguments)
    if given.protocol == "v3det" and given.category_tree is None:
        parser.error("--protocol v3det needs --category-tree (without it use --protocol coco)")
    for name, least in (("max_dets", 1), ("pictures", 0), ("category_pictures", 0)):
        value = getattr(given, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    return given


def find_category(text: str, truth: GroundTruth) -> int:
    """The place of the category with an id or a name.

    Raises:
        ValueError: there is none, or the name is that of several.
    """
    ids = truth.category_ids.tolist()
    if text.isdecimal() and int(text) in ids:
        return ids.index(int(text))
    found = [row for row, name in enumerate(truth.names) if name == text]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"several categories are called {text!r}: ids {[ids[r] for r in found]}")
    near = [name for name in truth.names if text.casefold() in name.casefold()][:5]
    raise ValueError(f"no category {text!r} among {len(ids)}" + (f"; there is {near}" * bool(near)))


def node_names(truth: GroundTruth, report: Report, tree_file: Path | None) -> list[str]:
    """What to call each of the N nodes: categories by their name, others as the tree does."""
    names = list(truth.names)
    if report.hierarchy is None or report.hierarchy.node_names is None or tree_file is None:
        return names
    known: dict[str, str] = {}
    if v3det_tree(tree_file):
        from cqdino_d2.annotations.v3det_tree import read_v3det_tree

        known = read_v3det_tree(tree_file).get("id2name") or {}
    virtual = report.hierarchy.node_names[len(names) :]
    return names + [str(known.get(node, node)) for node in virtual]


def main(arguments: list[str] | None = None) -> int:
    """Makes the report; 2 is the exit code for bad input."""
    given = parse_arguments(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        print(run(given))
    except (ValueError, OSError, MemoryError) as error:
        print(f"error: {one_line(str(error)) or 'not enough memory'}", file=sys.stderr)
        return BAD_INPUT
    return 0


def run(given: argparse.Namespace) -> Path:
    """What the command line asks for; returns the page."""
    from cqdino_d2.evaluation import judge_detections, load_ground_truth, load_results
    from cqdino_d2.reports.page import render

    truth = load_ground_truth(given.annotations)
    hierarchy = read_tree(given.category_tree, truth)
    protocol = make_protocol(given.protocol, given.max_dets, hierarchy)
    shown = [find_category(text, truth) for text in given.show_category]
    detections = load_results(given.results, truth)
    judged = judge_detections(protocol, truth, detections)
    report = protocol.evaluate(truth, detections)
    del detections
    page = given.output / "index.html"
    write_text(page, render(gather(given, report, judged, shown)))
    return page


def gather(
    given: argparse.Namespace, report: Report, judged: JudgedDetections, shown: list[int]
) -> Content:
    """All that the page shows; draws its plots and pictures."""
    from cqdino_d2.evaluation import summarize_errors
    from cqdino_d2.reports import examples as selection
    from cqdino_d2.reports.page import Content
    from cqdino_d2.reports.plots import draw_all

    truth, hierarchy = report.truth, report.hierarchy
    errors = summarize_errors(judged)
    judged = judged.take(judged.scores >= given.threshold)
    confusions = selection.Confusions.of(judged)
    siblings, branches = [], None
    if hierarchy is not None:
        branches = selection.branches_of(hierarchy, report)
        siblings = selection.sibling_groups(
            judged, confusions, hierarchy, groups=_FAMILIES, size=_CHILDREN
        )
    tree = given.category_tree
    plots = draw_all(report, errors, v3det_tree(tree), given.output / "plots")
    galleries = draw_galleries(given, report, judged, shown) if given.images else []
    anchors = {gallery.anchor for gallery in galleries if gallery.figures}
    places = {f"category-{one}": row for row, one in enumerate(truth.category_ids.tolist())}
    return Content(
        title=f"{given.results.name} on {given.annotations.name}",
        facts=facts(given, report, judged),
        report=report,
        errors=errors,
        threshold=given.threshold,
        node_names=node_names(truth, report, tree),
        branches=branches,
        confusions=confusions,
        siblings=siblings,
        plots=[f"{path.parent.name}/{path.name}" for path in plots],
        galleries=galleries,
        pictured={row: anchor for anchor, row in places.items() if anchor in anchors},
    )


def facts(given: argparse.Namespace, report: Report, judged: JudgedDetections) -> list[str]:
    """What was evaluated, in words."""
    truth, per = report.truth, report.per_category
    lines = [
        f"{len(truth.image_ids):,} images, {int(per.num_boxes.sum()):,} boxes to find, "
        f"{len(truth.names):,} categories ({int((per.num_boxes > 0).sum()):,} with boxes), "
        f"{int(per.num_detections.sum()):,} detections that count "
        f"({len(judged.scores):,} with a score of at least {given.threshold:.2f}).",
        f"Protocol: {report.protocol}.",
    ]
    if report.hierarchy is None:
        lines.append("No category tree was given (--category-tree): all categories stand alone.")
    if given.images is None:
        lines.append("No images were given (--images).")
    return lines


def draw_galleries(
    given: argparse.Namespace, report: Report, judged: JudgedDetections, shown: list[int]
) -> list[Gallery]:
    """Chooses the pictures and draws them."""
    from cqdino_d2.reports import gallery
    from cqdino_d2.reports.comparison import image_files
    from cqdino_d2.reports.examples import worst_categories

    truth = report.truth
    files = image_files(given.annotations, given.images)
    worst = worst_categories(report, given.category_pictures)
    planned = [
        *gallery.plan_images(judged, truth, given.pictures),
        *gallery.plan_errors(judged, truth, given.pictures),
        *gallery.plan_categories(judged, report, list(dict.fromkeys([*shown, *worst]))),
    ]
    painter = gallery.Painter(judged, truth, files, given.output / "pictures")
    return gallery.paint_all(painter, planned, given.images)


if __name__ == "__main__":
    sys.exit(main())
