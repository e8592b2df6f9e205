"""From a trained model to a file that does without its code."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..detector import CQDINO, GroundingDINO
from ..files import write_atomically, write_text
from ..ops import backend
from ..prediction import get_predictor_cfg
from ..prediction.image_predictor import ImagePredictor
from ..prediction.predictor_config import build_augmentations
from .check import Sizes, check, make_sample
from .exportable import ExportableDetector, exportable, least_names
from .exported import description_of
from .onnx import to_onnx
from .runtimes import RUNTIMES
from .text_side import TEXT_INPUTS, TextSide, checkpoint_id
from .tracing import choose_sizes, trace

logger = logging.getLogger(__name__)

FORMATS = ("torch.export", "onnx")
ONNX_RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class ExportOptions:
    """How a detector is exported.

    Attributes:
        format: one of `FORMATS`.
        height: of the traced image in pixels; None for the test size.
        width: likewise.
        static: for images of exactly this size; else for any between limits.
        reference_ops: with torch.export operators of torch alone, slower (always so in ONNX).
        runtimes: some of `ONNX_RUNTIMES`, in which an ONNX file is compared with the model.
        several_names: whether a box may have several names, where a model reads words; as in a
            `TextPredictor` it has its best one otherwise.
    """

    format: str
    height: int | None = None
    width: int | None = None
    static: bool = False
    reference_ops: bool = False
    runtimes: Sequence[str] = ("onnxruntime",)
    several_names: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {FORMATS}, got {self.format!r}")
        if not self.runtimes or not set(self.runtimes) <= set(ONNX_RUNTIMES):
            raise ValueError(f"runtimes must be some of {ONNX_RUNTIMES}, got {self.runtimes!r}")
        for name in ("height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, got {value}")


@dataclass(frozen=True)
class ExportedFile:
    """What was written.

    Attributes:
        path: the file.
        description: names, ids, limits and the file's SHA-256, see `description_of`.
        num_bytes: of the file.
        comparisons: a line for each size at which it was compared with the model.
    """

    path: Path
    description: Path
    num_bytes: int
    comparisons: Sequence[str]


def load_model(
    config_file: str | Path,
    weights: str | Path,
    overrides: Sequence[str] = (),
    *,
    several_names: bool = False,
) -> tuple[CQDINO, CfgNode]:
    """A model that computes in float32 on the CPU, and its config for predictors.

    Args:
        config_file: as `get_predictor_cfg` takes it.
        weights: a training's ``model_inference.pth``.
        overrides: ``key=value`` for the config.
        several_names: see `ExportOptions`.

    Raises:
        FileNotFoundError, ValueError: see `get_predictor_cfg`.
    """
    cfg = get_predictor_cfg(config_file, weights=weights, device="cpu", overrides=overrides)
    model = ImagePredictor(cfg).model
    model.autocast_dtype = model.inference_dtype = None
    if isinstance(model, GroundingDINO):
        model.post_processor.one_per_query = not several_names
    return model, cfg


def load_text_side(
    config_file: str | Path, weights: str | Path, overrides: Sequence[str] = ()
) -> TextSide:
    """What makes the further inputs of an exported text detector; arguments of `load_model`.

    Raises:
        ValueError: a model that reads no words, besides those of `load_model`.
    """
    model, _ = load_model(config_file, weights, overrides)
    if not isinstance(model, GroundingDINO):
        raise ValueError(f"the model of {config_file} reads no words: its vocabulary is fixed")
    return TextSide(model)


def export_detector(
    config_file: str | Path,
    weights: str | Path,
    output: str | Path,
    options: ExportOptions,
    *,
    overrides: Sequence[str] = (),
) -> ExportedFile:
    """Exports a detector: (3, H, W) float32 RGB in 0..255 to boxes, scores and vocab_ids.

    One that reads words takes their text side besides, see `ExportableTextDetector.forward`. The
    file is compared with the model, at three sizes where it takes several, before it is written.
    If a write fails, an earlier file and its description remain.

    Args:
        config_file: as `get_predictor_cfg` takes it.
        weights: a training's ``model_inference.pth``.
        output: the file, no ``.json``; its folder is made.
        options: format and sizes.
        overrides: ``key=value`` for the config.

    Raises:
        FileNotFoundError: the config or the weights are missing.
        ValueError: an `ExportError` for what cannot be exported, or an unusable argument.
        OSError: the file cannot be written.
    """
    output = Path(output)
    _check_output(output)
    model, cfg = load_model(config_file, weights, overrides, several_names=options.several_names)
    detector = exportable(model)
    sizes = choose_sizes(
        detector, cfg, height=options.height, width=options.width, static=options.static
    )
    onnx = options.format == "onnx"
    logger.info("tracing at %d x %d pixels", *sizes.traced)
    sample = make_sample(model, sizes.traced, 0)
    reference_ops = onnx or options.reference_ops
    program = trace(detector, sample, sizes, static=options.static, reference_ops=reference_ops)
    content = to_onnx(program, list(sample.inputs)) if onnx else _saved(program)
    comparisons: list[str] = []
    for runtime in options.runtimes if onnx else ("torch",):
        comparisons += check(model, RUNTIMES[runtime](content), sizes, runtime)
    facts = _description(options, cfg, sizes, detector) | {"checkpoint": checkpoint_id(model)}
    _write_both(output, content, facts)
    return ExportedFile(output, description_of(output), len(content), comparisons)


def _check_output(path: Path) -> None:
    if path.suffix.lower() == ".json":
        raise ValueError(f"{path} has the name of a description, which is written beside the file")
    if path.is_dir():
        raise ValueError(f"{path} is a folder")


def _write_both(path: Path, content: bytes, facts: dict[str, Any]) -> None:
    """The file and its description; what fails leaves both as they were."""
    digest = {"sha256": hashlib.sha256(content).hexdigest()}

    def write(file: IO[bytes]) -> None:
        file.write(content)  # the larger, which a disk lacks
        file.flush()
        # a process killed before the file gets its name leaves a digest that does not fit
        write_text(description_of(path), json.dumps(facts | digest, indent=1))

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)


def _saved(program: torch.export.ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _description(
    options: ExportOptions, cfg: CfgNode, sizes: Sizes, detector: ExportableDetector
) -> dict[str, Any]:
    """What a user of the file needs to know."""
    compiled = options.format == "torch.export" and not options.reference_ops
    limits = {"least": sizes.least, "most": sizes.most}
    count = detector.num_detections
    reads_words = isinstance(detector.model, GroundingDINO)
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
            "vocab_ids": [count, "places in names, -1 for none"],
        },
        "needs": "import cqdino_d2.ops" if compiled and backend() == "compiled" else None,
    } | (_words(detector) if reads_words else _names(cfg))


def _words(detector: ExportableDetector) -> dict[str, Any]:
    """The inputs of a detector that reads words."""
    return {
        "text_inputs": list(TEXT_INPUTS),
        "text_width": detector.model.tokenizer.level_embedding.shape[1],
        "least_names": least_names(detector.model),
        "several_names": not detector.model.post_processor.one_per_query,
    }


def _names(cfg: CfgNode) -> dict[str, Any]:
    """The vocabulary of a detector that has a fixed one."""
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    ids = {vocab: one for one, vocab in metadata.thing_dataset_id_to_contiguous_id.items()}
    return {
        "names": list(metadata.thing_classes),
        "dataset_ids": [ids[vocab] for vocab in range(len(ids))],
    }
