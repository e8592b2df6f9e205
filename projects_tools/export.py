"""Exports a trained detector for use without its code: one image in, boxes out.

Examples:
    python projects_tools/export.py --config-file configs/own/shapes.py --format onnx \\
        --weights output/shapes/model_inference.pth --output output/shapes/detector.onnx
    python projects_tools/export.py --config-file C --weights W --format torch.export \\
        --output detector.pt2 --height 800 --width 1216

The exported function takes image (3, H, W), float32 RGB in 0..255, already of the size the model is
to see, of any height and width between limits, and returns boxes (N, 4) xyxy in its pixels, scores
(N,), best first, and vocab_ids (N,). It takes one image at a time. The vocabulary is fixed: what
depends on it alone is a constant in the file. Names, ids and limits stand in a .json beside it.

The file is run on images of two sizes and compared with the model before it is written. ONNX
needs pip install onnx onnxruntime onnxscript; deformable attention becomes GridSample there.
torch.export uses this package's operator (import cqdino_d2.ops before loading the file), or with
--reference-ops operators of torch alone. Backbones with windows (Swin) need --static: with dynamic
sizes tracing them takes longer than was waited for.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from cqdino_d2.export import FORMATS, ExportOptions, export_detector
from cqdino_d2.structures import log_to_terminal, one_line

BAD_INPUT = 2


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--weights", required=True, metavar="FILE", help="model_inference.pth")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--height", type=int, help="of the traced image (default: test size)")
    parser.add_argument("--width", type=int)
    parser.add_argument(
        "--static", action="store_true", help="for images of exactly --height x --width"
    )
    parser.add_argument(
        "--reference-ops",
        action="store_true",
        help="torch.export: operators of torch alone, slower (always so in ONNX)",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exports; 2 is the exit code for what cannot be exported."""
    given = parse_arguments(arguments)
    log_to_terminal("%(levelname)s: %(message)s", logging.WARNING)
    logging.getLogger("cqdino_d2.export").setLevel(logging.INFO)
    try:
        options = ExportOptions(
            format=given.format,
            height=given.height,
            width=given.width,
            static=given.static,
            reference_ops=given.reference_ops,
        )
        made = export_detector(
            given.config_file, given.weights, given.output, options, overrides=given.overrides
        )
    except (ValueError, OSError) as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    print("\n".join(made.comparisons))
    print(f"{made.path} ({made.num_bytes / 2**20:.1f} MiB), {made.description}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
