"""Exports a trained detector for use without its code: one picture in, boxes out.

Examples:
    python projects_tools/export.py --config-file configs/own/shapes.py --format onnx \\
        --weights output/shapes/model_inference.pth --output output/shapes/detector.onnx
    python projects_tools/export.py --config-file C --weights W --format torch.export \\
        --output detector.pt2 --height 800 --width 1216

The exported function takes image (3, H, W), float32 RGB in 0..255, already of the size the model is
to see, of any height and width between limits, and returns boxes (N, 4) xyxy in its pixels, scores
(N,), best first, and vocab_ids (N,). It takes one picture at a time. The vocabulary is fixed: what
depends on it alone is a constant in the file. Names, ids and limits stand in a .json beside it.

The file is run on pictures of two sizes and compared with the model before it is written. ONNX
needs pip install onnx onnxruntime onnxscript; deformable attention becomes GridSample there.
torch.export uses this package's operator (import cqdino_d2.ops before loading the file), or with
--reference-ops operators of torch alone. Backbones with windows (Swin) need --static: with dynamic
sizes tracing them takes longer than was waited for.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from torch import Tensor, nn

from cqdino_d2.export import ExportableDetector
from cqdino_d2.export.check import (
    OUTPUTS,
    ExportError,
    Sizes,
    check,
    make_picture,
    onnx_runner,
    torch_runner,
)
from cqdino_d2.files import write_atomically
from cqdino_d2.ops import backend, reference_only
from cqdino_d2.prediction import get_predictor_cfg
from cqdino_d2.prediction.predictor_config import build_augmentations

BAD_INPUT = 2
FORMATS = ("torch.export", "onnx")
_OPSET = 20


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--weights", required=True, metavar="FILE", help="model_inference.pth")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--height", type=int, help="of the traced picture (default: test size)")
    parser.add_argument("--width", type=int)
    parser.add_argument(
        "--static", action="store_true", help="for pictures of exactly --height x --width"
    )
    parser.add_argument(
        "--reference-ops",
        action="store_true",
        help="torch.export: operators of torch alone, slower (always so in ONNX)",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    return parser.parse_intermixed_args(arguments)


def choose_sizes(detector: ExportableDetector, given: argparse.Namespace, cfg: CfgNode) -> Sizes:
    """The sizes to trace and to compare with.

    Raises:
        ValueError: the size asked for is too small for the model.
    """
    short = cfg.INPUT.MIN_SIZE_TEST or 224
    height = given.height or short
    width = given.width or min(cfg.INPUT.MAX_SIZE_TEST, round(1.25 * short))
    model = detector.model
    with torch.no_grad():
        _, levels = model.extract_maps(_ImageBatch(torch.zeros(1, 3, 512, 512)))
    strides = [round(512 / level.shape[-1]) for level in levels]
    queries = model.query_selection.num_queries
    least = max(strides) + 1  # two tokens a side on the coarsest level
    while sum((-(-least // stride)) ** 2 for stride in strides) < queries:
        least += 1
    if min(height, width) < least:
        raise ValueError(
            f"{height} x {width} pixels are too small: the coarsest level has one token per "
            f"{max(strides)} pixels, and {queries} object queries need as many tokens; each side "
            f"must be at least {least}"
        )
    other = (height, width)
    if not given.static:
        other = (max(least, round(1.1 * width)), max(least, round(0.8 * height)))
    most = max(2048, *other, height, width)
    return Sizes((height, width), other, least, most)


@dataclass(frozen=True)
class _ImageBatch:
    """The part of Detectron2's ``ImageList`` that the backbone needs."""

    tensor: Tensor


def trace(
    detector: ExportableDetector, sizes: Sizes, *, static: bool, reference_ops: bool
) -> torch.export.ExportedProgram:
    """Traces the detector.

    Raises:
        ExportError: a part of it cannot be traced; names the part.
    """
    sides = {}
    if not static:
        limits = dict(min=sizes.least, max=sizes.most)
        sides = {1: torch.export.Dim("height", **limits), 2: torch.export.Dim("width", **limits)}
    picture = make_picture(sizes.traced, seed=0)
    try:
        with torch.no_grad(), reference_only(reference_ops):
            return torch.export.export(
                detector,
                (picture,),
                dynamic_shapes={"image": sides or None},
                strict=False,  # as Python runs it
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # whatever the parts raise while they are traced
        part = blamed_part(error, detector.model)
        where = f"its part {part}" if part else "it"
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        hint = "" if static else "; --static with --height and --width may work"
        raise ExportError(
            f"{where} cannot be exported: {type(error).__name__}: {first}{hint}"
        ) from error


def blamed_part(error: BaseException, model: nn.Module) -> str | None:
    """Name and class of the innermost module of the model in which an error arose."""
    names = {id(module): name for name, module in model.named_modules() if name}
    found = None
    seen: BaseException | None = error
    while seen is not None:
        frame: TracebackType | None = seen.__traceback__
        while frame is not None:
            module = frame.tb_frame.f_locals.get("self")
            if id(module) in names:
                found = f"{names[id(module)]} ({type(module).__name__})"
            frame = frame.tb_next
        seen = seen.__cause__ or seen.__context__
    return found


def to_onnx(program: torch.export.ExportedProgram) -> bytes:
    """The ONNX file of a traced detector.

    Raises:
        ExportError: packages are missing, or an operator has no counterpart in ONNX.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        message = f"ONNX needs pip install onnx onnxruntime onnxscript ({error})"
        raise ExportError(message) from error
    try:
        # Its optimiser loses the bounds of some Clips (onnxscript 0.7.2); runtimes have their own.
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=list(OUTPUTS),
            optimize=False,
            verbose=False,
        )
        return made.model_proto.SerializeToString()
    except Exception as error:  # of many libraries
        first = str(error).strip().splitlines()[0]
        raise ExportError(
            f"it cannot be written as ONNX: {type(error).__name__}: {first}"
        ) from error


def description(given: argparse.Namespace, cfg: CfgNode, sizes: Sizes, count: int) -> dict:
    """What a user of the file needs to know."""
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    ids = {vocab: one for one, vocab in metadata.thing_dataset_id_to_contiguous_id.items()}
    compiled = given.format == "torch.export" and not given.reference_ops
    limits = {"least": sizes.least, "most": sizes.most}
    return {
        "format": given.format,
        "input": {
            "name": "image",
            "shape": [3, *(sizes.traced if given.static else ("height", "width"))],
            "values": "float32 RGB, 0..255",
            "side_pixels": None if given.static else limits,
            "trained_for": {"short": cfg.INPUT.MIN_SIZE_TEST, "long": cfg.INPUT.MAX_SIZE_TEST},
            "resize": "as in an evaluation: " + repr(build_augmentations(cfg)),
        },
        "outputs": {
            "boxes": [count, 4, "x0, y0, x1, y1 in pixels of the input"],
            "scores": [count, "0..1, best first"],
            "vocab_ids": [count, "places in names and dataset_ids"],
        },
        "needs": "import cqdino_d2.ops" if compiled and backend() == "compiled" else None,
        "names": list(metadata.thing_classes),
        "dataset_ids": [ids[vocab] for vocab in range(len(ids))],
    }


def export(given: argparse.Namespace) -> None:
    """What the command line asks for."""
    cfg = get_predictor_cfg(
        given.config_file, weights=given.weights, device="cpu", overrides=given.overrides
    )
    model = DefaultPredictor(cfg).model
    detector = ExportableDetector(model)
    model.autocast_dtype = None
    sizes = choose_sizes(detector, given, cfg)
    onnx = given.format == "onnx"
    print(f"tracing at {sizes.traced[0]} x {sizes.traced[1]} pixels", flush=True)
    program = trace(detector, sizes, static=given.static, reference_ops=onnx or given.reference_ops)
    if onnx:
        content = to_onnx(program)
    else:
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        content = buffer.getvalue()
    for line in check(model, (onnx_runner if onnx else torch_runner)(content), sizes):
        print(line)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    facts = json.dumps(description(given, cfg, sizes, detector.num_detections), indent=1)
    sidecar = given.output.with_suffix(".json")
    write_atomically(sidecar, lambda file: file.write(facts.encode()))
    write_atomically(given.output, lambda file: file.write(content))
    print(f"{given.output} ({len(content) / 2**20:.1f} MiB), {sidecar}")


def main(arguments: list[str] | None = None) -> int:
    """Exports; 2 is the exit code for what cannot be exported."""
    given = parse_arguments(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        export(given)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
