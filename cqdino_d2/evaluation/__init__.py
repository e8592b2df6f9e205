"""What a detector is worth: figures from predictions and annotations.

What needs Detectron2 is imported when first asked for: scoring a file does without it and torch.
"""

from importlib import import_module
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
from .scoring import Scores, score
from .texts import ExpressionProtocol, GeneralizedProtocol, PhraseProtocol
from .vocabulary_order import hierarchy_in_order

_FILE_OF = {
    "COCOEvaluator": "evaluators",
    "ColumnEvaluator": "column_evaluator",
    "LVISEvaluator": "evaluators",
    "SetsEvaluator": "sets_evaluator",
    "TaggingEvaluator": "tagging",
    "TaggingProtocol": "tagging",
    "TextEvaluator": "texts.evaluator",
    "V3DetEvaluator": "evaluators",
    "build_evaluator": "evaluators",
}

__all__ = [
    "COCOEvaluator",
    "CocoProtocol",
    "ColumnEvaluator",
    "Curves",
    "Detections",
    "ErrorBreakdown",
    "ExpressionProtocol",
    "GeneralizedProtocol",
    "GroundTruth",
    "JudgedDetections",
    "LVISEvaluator",
    "LvisFixedProtocol",
    "LvisProtocol",
    "Outcomes",
    "PhraseProtocol",
    "Problem",
    "Report",
    "Rules",
    "Scores",
    "SetsEvaluator",
    "TaggingEvaluator",
    "TaggingProtocol",
    "TextEvaluator",
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
    "score",
    "summarize_errors",
    "to_detections",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .. import needs_detectron2  # noqa: F401  says how to get it

    return getattr(import_module(f".{_FILE_OF[name]}", __name__), name)
