"""Converts annotations to ODVG, for training with prompts.

Examples:
    python projects_tools/convert_annotations.py --form coco --input lvis_v1_train.json \
        --output lvis.jsonl --label-map lvis_labels.json
    python projects_tools/convert_annotations.py --form goldg --input final_mixed_train.json \
        --output gqa.jsonl
    python projects_tools/convert_annotations.py --form refexp \
        --input finetune_refcoco_train.json --output refcoco.jsonl
    python projects_tools/convert_annotations.py --form grit --input grit --output grit.jsonl

'coco' reads COCO, LVIS, V3Det and Objects365. COCO, LVIS and V3Det need no conversion to be trained
with prompts: register_coco_like and register_all do. The exit code is 0, or 2 with one line that
says what is wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cqdino_d2.conversion.grit import PHRASES
from cqdino_d2.conversion.to_odvg import FORMS, OdvgRequest, convert_to_odvg
from cqdino_d2.structures import one_line


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--form", required=True, choices=FORMS, help="of the input")
    parser.add_argument("--input", required=True, type=Path, metavar="FILE")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="JSON lines")
    parser.add_argument("--label-map", type=Path, metavar="FILE", help="to write, of 'coco'")
    parser.add_argument(
        "--name-parts",
        type=int,
        default=0,
        metavar="N",
        help="keep the last N parts of image names (Objects365: 2); 0: all",
    )
    parser.add_argument("--phrases", choices=PHRASES, default=PHRASES[0], help="of 'grit'")
    given = parser.parse_args(arguments)
    if given.name_parts < 0:
        parser.error(f"--name-parts must not be negative, got {given.name_parts}")
    if (given.form == "coco") != (given.label_map is not None):
        parser.error("--label-map is needed by --form coco, and by no other")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Converts; returns the exit code."""
    logging.basicConfig(format="%(message)s", level=logging.ERROR)
    given = parse_arguments(arguments)
    try:
        done = convert_to_odvg(OdvgRequest(**vars(given)))
    except (ValueError, OSError) as error:
        print(f"convert_annotations: {one_line(str(error))}", file=sys.stderr)
        return 2
    for note in done.notes:
        print(one_line(note))
    print(f"{given.output}: {done.lines:,} lines, {done.boxes:,} boxes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
