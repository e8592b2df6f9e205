"""What a detector is worth: figures from predictions and annotations.

The Detectron2 evaluators are imported when first asked for: scoring a file does without Detectron2.
"""

from typing import Any

from .annotation_file import ground_truth_from, load_ground_truth
from .category_recall import category_recall
from .columns import Detections, GroundTruth
from .core import accumulate, choose_backend, match
from .error_breakdown import (
    ErrorBreakdown,
    JudgedDetections,
    break_down_errors,
    judge_detections,
    summarize_errors,
)
from .figures import Report
from .problem import Curves, Outcomes, Problem, Rules
from .protocols import CocoProtocol, LvisFixedProtocol, LvisProtocol, V3DetProtocol
from .results_file import (
    load_results,
    save_results_json,
    save_results_npz,
    save_results_parquet,
    to_detections,
)
from .tagging import TaggingEvaluator, TaggingProtocol
from .vocabulary_order import hierarchy_in_order

_EVALUATORS = (
    "COCOEvaluator",
    "ColumnEvaluator",
    "LVISEvaluator",
    "V3DetEvaluator",
    "build_evaluator",
)

__all__ = [
    "COCOEvaluator",
    "CocoProtocol",
    "ColumnEvaluator",
    "Curves",
    "Detections",
    "ErrorBreakdown",
    "GroundTruth",
    "JudgedDetections",
    "LVISEvaluator",
    "LvisFixedProtocol",
    "LvisProtocol",
    "Outcomes",
    "Problem",
    "Report",
    "Rules",
    "TaggingEvaluator",
    "TaggingProtocol",
    "V3DetEvaluator",
    "V3DetProtocol",
    "accumulate",
    "break_down_errors",
    "build_evaluator",
    "category_recall",
    "choose_backend",
    "ground_truth_from",
    "hierarchy_in_order",
    "judge_detections",
    "load_ground_truth",
    "load_results",
    "match",
    "save_results_json",
    "save_results_npz",
    "save_results_parquet",
    "summarize_errors",
    "to_detections",
]


def __getattr__(name: str) -> Any:
    if name not in _EVALUATORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import evaluators

    return getattr(evaluators, name)
