"""Detectors that leave Python."""

from .exportable import ExportableDetector

__all__ = ["ExportableDetector"]
