"""Detectors that leave Python: as files of torch.export and ONNX."""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
from .detector_file import (
    FORMATS,
    ONNX_RUNTIMES,
    ExportedFile,
    ExportOptions,
    export_detector,
    load_text_side,
)
from .exportable import ExportableDetector, ExportableTextDetector, exportable
from .exported import ExportedDetector, Found
from .runtimes import ExportError
from .text_side import TextInputs, TextSide

__all__ = [
    "FORMATS",
    "ONNX_RUNTIMES",
    "ExportError",
    "ExportOptions",
    "ExportableDetector",
    "ExportableTextDetector",
    "ExportedDetector",
    "ExportedFile",
    "Found",
    "TextInputs",
    "TextSide",
    "export_detector",
    "exportable",
    "load_text_side",
]
