"""Detectors that leave Python: as files of torch.export and ONNX."""

from .check import ExportError
from .detector_file import FORMATS, ExportedFile, ExportOptions, export_detector
from .exportable import ExportableDetector

__all__ = [
    "FORMATS",
    "ExportError",
    "ExportOptions",
    "ExportableDetector",
    "ExportedFile",
    "export_detector",
]
