"""From a trained model to a file that does without its code."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor

from ..files import write_atomically, write_text
from ..ops import backend
from ..prediction import get_predictor_cfg
from ..prediction.predictor_config import build_augmentations
from .check import Sizes, check, onnx_runner, torch_runner
from .exportable import ExportableDetector
from .onnx import to_onnx
from .tracing import choose_sizes, trace

logger = logging.getLogger(__name__)

FORMATS = ("torch.export", "onnx")


@dataclass(frozen=True)
class ExportOptions:
    """How a detector is exported.

    Attributes:
        format: one of `FORMATS`.
        height: of the traced image in pixels; None for the test size.
        width: likewise.
        static: for images of exactly this size; else for any between limits.
        reference_ops: with torch.export operators of torch alone, slower (always so in ONNX).
    """

    format: str
    height: int | None = None
    width: int | None = None
    static: bool = False
    reference_ops: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {FORMATS}, got {self.format!r}")
        for name in ("height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, got {value}")


@dataclass(frozen=True)
class ExportedFile:
    """What was written.

    Attributes:
        path: the file.
        description: names, ids and limits, a JSON file beside it.
        num_bytes: of the file.
        comparisons: a line for each size at which it was compared with the model.
    """

    path: Path
    description: Path
    num_bytes: int
    comparisons: Sequence[str]


def export_detector(
    config_file: str | Path,
    weights: str | Path,
    output: str | Path,
    options: ExportOptions,
    *,
    overrides: Sequence[str] = (),
) -> ExportedFile:
    """Exports a detector: (3, H, W) float32 RGB in 0..255 to boxes, scores and vocab_ids.

    The file is compared with the model, at two sizes where it takes several, before it is written.

    Args:
        config_file: as `get_predictor_cfg` takes it.
        weights: a training's ``model_inference.pth``.
        output: the file; its folder is made.
        options: format and sizes.
        overrides: ``key=value`` for the config.

    Raises:
        FileNotFoundError: the config or the weights are missing.
        ValueError: an `ExportError` for what cannot be exported, or an unusable argument.
        OSError: the file cannot be written.
    """
    cfg = get_predictor_cfg(config_file, weights=weights, device="cpu", overrides=overrides)
    model = DefaultPredictor(cfg).model
    detector = ExportableDetector(model)
    model.autocast_dtype = None
    sizes = choose_sizes(
        detector, cfg, height=options.height, width=options.width, static=options.static
    )
    onnx = options.format == "onnx"
    logger.info("tracing at %d x %d pixels", *sizes.traced)
    program = trace(
        detector, sizes, static=options.static, reference_ops=onnx or options.reference_ops
    )
    content = to_onnx(program) if onnx else _saved(program)
    comparisons = check(model, (onnx_runner if onnx else torch_runner)(content), sizes)
    output = Path(output)
    sidecar = output.with_suffix(".json")
    facts = _description(options, cfg, sizes, detector.num_detections)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, lambda file: file.write(content))  # the larger, which a disk lacks
    write_text(sidecar, json.dumps(facts, indent=1))
    return ExportedFile(output, sidecar, len(content), comparisons)


def _saved(program: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _description(options: ExportOptions, cfg: CfgNode, sizes: Sizes, count: int) -> dict[str, Any]:
    """What a user of the file needs to know."""
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    ids = {vocab: one for one, vocab in metadata.thing_dataset_id_to_contiguous_id.items()}
    compiled = options.format == "torch.export" and not options.reference_ops
    limits = {"least": sizes.least, "most": sizes.most}
    return {
        "format": options.format,
        "input": {
            "name": "image",
            "shape": [3, *(sizes.traced if options.static else ("height", "width"))],
            "values": "float32 RGB, 0..255",
            "side_pixels": None if options.static else limits,
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
