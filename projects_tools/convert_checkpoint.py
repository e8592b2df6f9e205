"""Converts a released checkpoint: CQ-DINO, Grounding DINO, MM-Grounding-DINO or LLMDet.

Whose names a file has is seen from the file: CQ-DINO's, the official Grounding DINO's,
mmdetection's, or Hugging Face's (a .safetensors file or a folder).

Examples:
    python projects_tools/convert_checkpoint.py cqdino_swinb22k_v3det.pth \
        --config-file configs/v3det/cqdino_tree_swinb22k.py --category-tree v3det_tree.csv \
        --category-embeddings v3det_clip_embeddings.pth --output models/swinb22k/model.pth
    python projects_tools/convert_checkpoint.py v3det_clip_embeddings.pth \
        --config-file configs/v3det/cqdino_tree_swinb22k.py --output v3det_embeddings.pth
    python projects_tools/convert_checkpoint.py groundingdino_swint_ogc.pth \
        --config-file configs/grounding_dino/swint_ogc.py --output models/gdino_swint/model.pth

The input is read without running code from it. Writes the checkpoint and, for CQ-DINO, next to it
the vocabulary.json that evaluation and prediction take the categories and their tree from; reports
what became of every name. Exit code 1 (and nothing written) if something is left unexplained, 2 for
input that cannot be used. An embedding file as input is written with the ids of the categories.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cqdino_d2.structures import shown_lines

UNEXPLAINED, BAD_INPUT = 1, 2


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "input",
        type=Path,
        metavar="INPUT",
        help="released checkpoint (.pth, .safetensors, or a folder of Hugging Face), or embedding "
        "file",
    )
    add("--config-file", required=True, type=Path, metavar="FILE", help="the recipe it belongs to")
    add("--output", required=True, type=Path, metavar="OUT.pth", help="file to write")
    add(
        "--category-tree",
        type=Path,
        metavar="TREE",
        help="the released table (.csv) or V3Det's tree JSON: categories and tree come from there",
    )
    add(
        "--annotations",
        type=Path,
        metavar="GT.json",
        help="any annotation file of the dataset: the categories come from there "
        "(default: the config's dataset under $DETECTRON2_DATASETS)",
    )
    add(
        "--category-embeddings",
        type=Path,
        metavar="EMB.pth",
        help="released embedding file; checks that its categories are the vocabulary's",
    )
    add(
        "--patch-merging",
        choices=("microsoft", "mmdet"),
        help="channel order of the backbone's patch merging in a file of mmdetection's names "
        "(default: microsoft for CQ-DINO's released checkpoints, mmdet for MM-Grounding-DINO's)",
    )
    add("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Turns errors in what the user gave into one line and exit code 2."""
    given = parse_arguments(arguments)
    from cqdino_d2.conversion import ConversionRequest, convert_released_file  # takes seconds

    request = ConversionRequest(
        input=given.input,
        config_file=given.config_file,
        output=given.output,
        category_tree=given.category_tree,
        annotations=given.annotations,
        category_embeddings=given.category_embeddings,
        patch_merging=given.patch_merging,
        overrides=tuple(given.overrides),
    )
    try:
        outcome = convert_released_file(request)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"ERROR: {shown_lines(str(error))}", file=sys.stderr)
        return BAD_INPUT
    print(shown_lines("\n".join(outcome.lines)))
    for problem in outcome.problems:
        print(f"NOT CONVERTED: {shown_lines(problem)}", file=sys.stderr)
    return UNEXPLAINED if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
