"""The matching core in C++ (`csrc/`), several threads; same results as `reference`."""

from __future__ import annotations

import os
from types import ModuleType

import numpy as np

from ..extension import EVALUATION
from .problem import Curves, Outcomes, Problem, Rules


def is_available() -> bool:
    """Whether the compiled operators can be called."""
    return EVALUATION.is_available()


def reason() -> str | None:
    """Why they cannot, or None."""
    return EVALUATION.reason()


def num_threads() -> int:
    """Threads to work with: OMP_NUM_THREADS, else the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if wanted.isdigit():
        return max(int(wanted), 1)
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_results(text: bytearray) -> tuple[np.ndarray, ...] | None:
    """Columns of the records of a results file; see `result_json`.

    Args:
        text: records with commas between them.

    Returns:
        (N,) image ids, (N,) category ids, (N, 4) boxes and (N,) scores; None for any other text.
    """
    return _binary().parse_results(text)


def _binary() -> ModuleType:
    from .. import _evaluation

    return _evaluation


def _array(array: np.ndarray | None, dtype: type | None = None) -> np.ndarray:
    """The array in one piece, itself where it is so already; None is empty."""
    return np.ascontiguousarray(np.empty(0) if array is None else array, dtype)


def _axes(rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Area ranges and limits."""
    return _array(rules.area_ranges, np.float64), _array(np.array(rules.max_dets), np.int64)


def match(problem: Problem, *, keep_matches: bool = False) -> Outcomes:
    """Matches in C++; see `core.match`."""
    columns, rules = problem.detections, problem.rules
    flags = problem.gt_ignored + 2 * problem.gt_crowd.astype(np.uint8)
    flags = flags + 4 * problem.gt_zero_id.astype(np.uint8)
    above = problem.ancestors
    *results, matches = _binary().match_detections(
        _array(columns.images, np.int32),
        _array(columns.categories, np.int32),
        _array(columns.boxes_xywh_abs),
        _array(columns.scores),
        _array(problem.exempt, np.uint8),
        _array(problem.gt_images, np.int32),
        _array(problem.gt_categories, np.int32),
        _array(problem.gt_boxes_xywh_abs, np.float64),
        _array(problem.gt_areas, np.float64),
        _array(flags, np.uint8),
        _array(np.zeros(1) if above is None else above.offsets, np.int64),
        _array(np.zeros(0) if above is None else above.indices, np.int64),
        _array(rules.iou_thresholds, np.float64),
        *_axes(rules),
        problem.num_categories,
        num_threads(),
        keep_matches,
    )
    return Outcomes(*results, matches=matches if keep_matches else None)


def accumulate(outcomes: Outcomes, rules: Rules, *, keep_all: bool = False) -> Curves:
    """Accumulates in C++; see `core.accumulate`."""
    precision, recall, scores = _binary().accumulate_outcomes(
        _array(outcomes.starts, np.int64),
        _array(outcomes.ends, np.int64),
        _array(outcomes.scores, np.float64),
        _array(outcomes.ranks, np.int32),
        _array(outcomes.codes, np.int32),
        _array(outcomes.masks, np.int32),
        _array(outcomes.num_boxes, np.int64),
        _array(rules.iou_thresholds, np.float64),
        _array(rules.recall_thresholds, np.float64),
        *_axes(rules),
        num_threads(),
        keep_all,
    )
    return Curves(precision, recall, scores if keep_all else None)
