"""Exports a trained detector for use without its code: one image in, boxes out.

Examples:
    python projects_tools/export.py --config-file configs/own/shapes.py --format onnx \\
        --weights output/shapes/model_inference.pth --output output/shapes/detector.onnx
    python projects_tools/export.py --config-file C --weights W --format torch.export \\
        --output detector.pt2 --height 800 --width 1216
    python projects_tools/export.py --config-file configs/grounding_dino/swint_ogc.py --weights W \\
        --format words --text "a cat. a dog." --output words.npz

The exported function takes image (3, H, W), float32 RGB in 0..255, already of the size the model is
to see, of any height and width between limits, and returns boxes (N, 4) xyxy in its pixels, scores
(N,), best first, and vocab_ids (N,). It takes one image at a time. Names, ids and limits are in
OUTPUT.json next to it. The vocabulary of a CQ-DINO is fixed: what depends on it alone is a constant
in the file. What a Grounding DINO looks for is an input: --format words writes it as a file of
numpy, whose arrays are the other inputs. docs/export.md has the whole way.

The file is run on images of three sizes and compared with the model before it is written. ONNX
needs pip install .[export]; deformable attention becomes GridSample there.
torch.export uses this package's operator (import cqdino_d2.ops before loading the file), or with
--reference-ops operators of torch alone.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from cqdino_d2.export import (
    FORMATS,
    ExportOptions,
    export_detector,
    load_text_side,
)
from cqdino_d2.prediction.loading import read_names
from cqdino_d2.structures import log_to_terminal, one_line

BAD_INPUT = 2
WORDS = "words"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE")
    add("--weights", required=True, metavar="FILE", help="model_inference.pth")
    add("--format", required=True, choices=(*FORMATS, WORDS))
    add("--output", required=True, type=Path, metavar="FILE")
    add("--height", type=int, help="of the traced image (default: test size)")
    add("--width", type=int)
    add("--static", action="store_true", help="for images of exactly --height x --width")
    add(
        "--reference-ops",
        action="store_true",
        help="torch.export: operators of torch alone, slower (always so in ONNX)",
    )
    add(
        "--several-names",
        action="store_true",
        help="a box may have several, where the model reads words (default: its best one)",
    )
    add("--openvino", action="store_true", help="ONNX: compare in OpenVINO as well")
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--text", metavar="CAPTION", help='words: such as "a cat. a red ball."')
    words.add_argument("--names", metavar="FILE", help="words: a name per line, synonyms by '|'")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    return parser.parse_intermixed_args(arguments)


def write_detector(given: argparse.Namespace) -> None:
    """Exports the detector.

    Raises:
        ValueError, OSError: see `export_detector`.
    """
    options = ExportOptions(
        format=given.format,
        height=given.height,
        width=given.width,
        static=given.static,
        reference_ops=given.reference_ops,
        several_names=given.several_names,
        runtimes=("onnxruntime", "openvino") if given.openvino else ("onnxruntime",),
    )
    made = export_detector(
        given.config_file, given.weights, given.output, options, overrides=given.overrides
    )
    print("\n".join(made.comparisons))
    print(f"{made.path} ({made.num_bytes / 2**20:.1f} MiB), {made.description}")


def write_words(given: argparse.Namespace) -> None:
    """Writes what a text detector's file takes besides the image.

    Raises:
        ValueError: no words, or more than one pass over an image holds.
        OSError: a file cannot be read or written.
    """
    if given.text is None and given.names is None:
        raise ValueError("--format words needs --text or --names")
    wanted = given.text if given.names is None else read_names(given.names)
    side = load_text_side(given.config_file, given.weights, given.overrides)
    passes = side(wanted)
    if len(passes) > 1:
        most = side.model.categories.tokenizer.max_tokens
        raise ValueError(
            f"{len(passes[0].names)} names need {len(passes)} passes of {most} tokens over an "
            "image, and a file holds one: put them into several files"
        )
    given.output.parent.mkdir(parents=True, exist_ok=True)
    passes[0].save(given.output)
    print(f"{given.output}: {len(passes[0].names)} names")


def main(arguments: list[str] | None = None) -> int:
    """Exports; 2 is the exit code for what cannot be exported."""
    given = parse_arguments(arguments)
    log_to_terminal("%(levelname)s: %(message)s", logging.WARNING)
    logging.getLogger("cqdino_d2.export").setLevel(logging.INFO)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # warns of what it leaves as it is
    try:
        (write_words if given.format == WORDS else write_detector)(given)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
