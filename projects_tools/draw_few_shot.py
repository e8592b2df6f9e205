"""Draws few images of a dataset in COCO's form, for few-shot training.

Example:
    python projects_tools/draw_few_shot.py --input datasets/shapes/train.json --shots 5 --seed 3 \\
        --output datasets/shapes/train_5shot_seed3.json

Images are taken in random order where they show a category that has fewer boxes than wanted by
then, with all of their boxes: a category has at least as many boxes as wanted, often more. The exit
code is 0, or 2 with one line that says what is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cqdino_d2.structures import one_line


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, type=Path, metavar="FILE")
    parser.add_argument("--shots", required=True, type=int, help="boxes of each category")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    if given.seed < 0:
        parser.error(f"--seed must not be negative, got {given.seed}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws; returns the exit code."""
    given = parse_arguments(arguments)
    from cqdino_d2.conversion.few_shot import draw_few_shot  # takes seconds

    try:
        drawn = draw_few_shot(given.input, given.output, given.shots, given.seed)
    except (ValueError, OSError) as error:
        print(f"draw_few_shot: {one_line(str(error))}", file=sys.stderr)
        return 2
    for name, boxes in drawn.short.items():
        print(one_line(f"{name}: {boxes} boxes in all, fewer than {given.shots}"))
    images, boxes = (len(drawn.content[key]) for key in ("images", "annotations"))
    print(f"{given.output}: {images:,} images, {boxes:,} boxes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
