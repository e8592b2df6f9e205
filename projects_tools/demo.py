"""Draws what a detector finds in images and videos.

Examples:
    python projects_tools/demo.py --config-file configs/emojidet/quickstart.py \\
        --weights output/quickstart/training/model_inference.pth \\
        --input output/quickstart/datasets/emojidet/images/val --output output/demo
    python projects_tools/demo.py ... --input photo.jpg --output found.png --show-categories
    python projects_tools/demo.py ... --input 'clips/*.mp4' --output drawn --branch animal --depth 2
    ls photos/*.jpg | python projects_tools/demo.py ... --input - --output drawn --json found.json
    python projects_tools/demo.py ... --input clip.mp4 --output drawn.mp4 --track --json found.json
    python projects_tools/demo.py ... --input photo.jpg --output found.png \\
        --text "a cat. a red ball." --negatives "a stuffed cat"

A model that reads words (Grounding DINO) needs --text or --names; one that was trained by
categories looks among those of these names, and reads others with the --text-encoder that made its
embeddings.
Colours follow the category tree: siblings look alike. With --track they are the objects' own: each
keeps its colour and its number through a video (ByteTrack). A file that cannot be done is named,
the rest is done, and the exit code is 1; it is 2 if nothing could be. Overrides of the config
(key=value) go at the end.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from cqdino_d2.structures import log_to_terminal, one_line
from cqdino_d2.structures.question_options import add_question_arguments
from cqdino_d2.visualization.defaults import ON_SHEET, ONE_OBJECT_IOU, SAME_OBJECT_IOU

TRACK = (
    "follow objects through videos: each has a number, in its label and in --json; of boxes on one "
    f"object the best one remains (--nms {ONE_OBJECT_IOU} unless given), and objects that are "
    "followed may score down to a third of --threshold"
)


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what is shown."""
    add = parser.add_argument
    add("--threshold", type=float, default=0.3, metavar="T", help="confidence threshold (0.3)")
    add("--topk", type=int, metavar="N", help="at most N boxes per image")
    add(
        "--depth",
        type=int,
        metavar="D",
        help="name things by their ancestor at this depth of the tree, 1 for the roots",
    )
    add(
        "--keep-duplicates",
        action="store_true",
        help="boxes of one name on one object (IoU 0.5) are all shown, not the best alone",
    )
    add(
        "--nms",
        type=float,
        metavar="IOU",
        help="of boxes of any names that overlap more the best one remains",
    )
    add("--track", action="store_true", help=TRACK)
    add("--show-categories", action="store_true", help="the selected categories next to the image")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a config of configs/")
    add(
        "--weights", required=True, metavar="FILE", help="a checkpoint, next to its vocabulary.json"
    )
    add(
        "--input",
        nargs="+",
        required=True,
        metavar="NAME",
        help="images, videos, patterns, folders, or - for names from the standard input",
    )
    add("--output", type=Path, required=True, metavar="DIR|FILE", help="a file for one input")
    add_view_arguments(parser)
    add("--sheet", type=Path, metavar="FILE", help=f"the first {ON_SHEET} images on one")
    add("--json", type=Path, metavar="FILE", help="what is shown, as COCO results")
    add(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="a COCO or LVIS file whose image ids --json takes by file name, with as many of its "
        "folders as the file says; else images are numbered from 1",
    )
    add("--batch-size", type=int, default=8, metavar="B", help="images at once (8)")
    add(
        "--min-side",
        type=int,
        default=640,
        metavar="PIXELS",
        help="smaller images are drawn enlarged (640)",
    )
    add("--device", help="cpu, cuda, ...; default: a GPU where there is one")
    add_question_arguments(parser)
    add("overrides", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    overrides = [name for name in given.input if "=" in name and not Path(name).exists()]
    given.input = [name for name in given.input if name not in overrides]
    given.overrides += overrides
    check_numbers(parser, given)
    return given


def check_numbers(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Ends the program with the option whose number is out of its range."""
    for name in ("threshold", "nms"):
        if (value := getattr(given, name)) is not None and not 0 <= value <= 1:
            parser.error(f"--{name} must be in 0..1, got {value}")
    for name in ("topk", "depth", "num_selected", "batch_size", "min_side"):
        if (value := getattr(given, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {value}")


def draw(given: argparse.Namespace) -> int:
    """What the command line asks for; how many files could not be done."""
    from cqdino_d2.prediction.loading import load_predictor  # takes seconds
    from cqdino_d2.prediction.question_arguments import question_of
    from cqdino_d2.visualization.drawn_files import DrawingSettings, DrawnFiles
    from cqdino_d2.visualization.media import find_sources
    from cqdino_d2.visualization.result_view import ViewSettings

    sources = find_sources(given.input, sys.stdin if "-" in given.input else ())
    if not sources:
        raise FileNotFoundError("--input names no file")
    settings = DrawingSettings(
        output=given.output,
        view=ViewSettings(
            threshold=given.threshold,
            most=given.topk,
            depth=given.depth,
            same_object_iou=None if given.keep_duplicates else SAME_OBJECT_IOU,
        ),
        show_categories=given.show_categories,
        sheet=given.sheet,
        results=given.json,
        annotations=given.annotations,
        batch_size=given.batch_size,
        min_side=given.min_side,
        track=given.track,
    )
    files = DrawnFiles(sources, settings)
    question = question_of(given)
    predictor = load_predictor(
        given.config_file,
        given.weights,
        device=given.device,
        overrides=given.overrides,
        nms_threshold=ONE_OBJECT_IOU if given.track and given.nms is None else given.nms,
    )
    files.run(question.put_to(predictor))
    if files.problems:
        print(f"demo: {len(files.problems)} of {len(sources)} could not be done", file=sys.stderr)
    return len(files.problems)


def main(arguments: list[str] | None = None) -> int:
    """Draws; the exit code is 1 if a file could not be done and 2 if nothing could."""
    given = parse_arguments(arguments)
    log_to_terminal("%(message)s", logging.WARNING)
    try:
        return 1 if draw(given) else 0
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"demo: {one_line(str(error))}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
