"""Shows what a detector gets right and wrong on a dataset: a page that opens from disk.

Examples:
    python projects_tools/visualize_results.py --annotations datasets/own/val.json \\
        --results output/own/coco_instances_results.json --images datasets/own/val --output report
    python projects_tools/visualize_results.py --protocol v3det --images datasets/V3Det \\
        --annotations v3det_2023_v1_val.json --results results.npz \\
        --category-tree v3det_2023_v1_category_tree.json --output report

DIR/index.html gets the figures, what the errors cost, the category tree with AP by branch, which
siblings are taken for each other, a table of all categories, and images: ground truth next to
detections of the worst and best images, of each kind of error and of the worst categories. It needs
no network. Without --images it shows no images. Files outside of that folder are not opened,
whatever the annotations say; the page then says so, and the exit code is 1. Results are a COCO
results file (.json) or its columns (.npz, .parquet) of any detector.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from cqdino_d2.evaluation.scoring import PROTOCOLS
from cqdino_d2.structures import log_to_terminal, one_line

INCOMPLETE, BAD_INPUT = 1, 2


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
        "--threshold", type=float, default=0.3, help="confidence threshold of the drawn detections"
    )
    parser.add_argument(
        "--pictures", type=int, default=8, metavar="N", help="of each kind (default: 8)"
    )
    parser.add_argument(
        "--category-pictures",
        type=int,
        default=8,
        metavar="N",
        help="categories, the worst ones, with three images each (default: 8)",
    )
    parser.add_argument(
        "--show-category",
        action="append",
        default=[],
        metavar="NAME|ID",
        help="images of this category too; can be repeated",
    )
    given = parser.parse_args(arguments)
    if given.protocol == "v3det" and given.category_tree is None:
        parser.error("--protocol v3det needs --category-tree (without it use --protocol coco)")
    for name, least in (("max_dets", 1), ("pictures", 0), ("category_pictures", 0)):
        value = getattr(given, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    return given


def main(arguments: list[str] | None = None) -> int:
    """Makes the report; 2 is the exit code for bad input, 1 where images were refused."""
    given = parse_arguments(arguments)
    from cqdino_d2.reports import ReportOptions, write_report  # Matplotlib takes its time

    log_to_terminal("%(levelname)s: %(message)s", logging.WARNING)
    try:
        written = write_report(
            given.annotations,
            given.results,
            given.output,
            images=given.images,
            category_tree=given.category_tree,
            options=ReportOptions(
                protocol=given.protocol,
                max_dets=given.max_dets,
                threshold=given.threshold,
                images_per_kind=given.pictures,
                worst_categories=given.category_pictures,
                categories=given.show_category,
            ),
        )
    except (ValueError, OSError, MemoryError) as error:
        print(f"error: {one_line(str(error)) or 'not enough memory'}", file=sys.stderr)
        return BAD_INPUT
    print(written.page)
    return INCOMPLETE if written.refused else 0


if __name__ == "__main__":
    sys.exit(main())
