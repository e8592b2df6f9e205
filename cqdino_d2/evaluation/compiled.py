"""The matching core in C++ (`csrc/`), several threads; same results as `reference`."""

from __future__ import annotations

import numpy as np
import torch

from .. import extension
from .problem import Curves, Outcomes, Problem, Rules


def is_available() -> bool:
    """Whether the compiled operators can be called."""
    return extension.is_available()


def reason() -> str | None:
    """Why they cannot, or None."""
    return extension.reason()


def _tensor(array: np.ndarray | None, dtype: type | None = None) -> torch.Tensor:
    """The array as a tensor, shared where the type is right already; None is empty."""
    if array is None:
        array = np.empty(0)
    return torch.from_numpy(np.ascontiguousarray(array, dtype))


def _axes(rules: Rules) -> tuple[torch.Tensor, torch.Tensor]:
    """Area ranges and limits."""
    return _tensor(rules.area_ranges, np.float64), _tensor(np.array(rules.max_dets), np.int64)


def match(problem: Problem, *, keep_matches: bool = False) -> Outcomes:
    """Matches in C++; see `core.match`."""
    columns, rules = problem.detections, problem.rules
    flags = problem.gt_ignored + 2 * problem.gt_crowd.astype(np.uint8)
    flags = flags + 4 * problem.gt_zero_id.astype(np.uint8)
    above = problem.ancestors
    *results, matches = torch.ops.cqdino_d2.match_detections(
        _tensor(columns.images, np.int32),
        _tensor(columns.categories, np.int32),
        _tensor(columns.boxes_xywh_abs),
        _tensor(columns.scores),
        _tensor(problem.exempt, np.uint8),
        _tensor(problem.gt_images, np.int32),
        _tensor(problem.gt_categories, np.int32),
        _tensor(problem.gt_boxes_xywh_abs, np.float64),
        _tensor(problem.gt_areas, np.float64),
        _tensor(flags, np.uint8),
        _tensor(np.zeros(1) if above is None else above.offsets, np.int64),
        _tensor(np.zeros(0) if above is None else above.indices, np.int64),
        _tensor(rules.iou_thresholds, np.float64),
        *_axes(rules),
        problem.num_categories,
        keep_matches,
    )
    columns = (result.numpy() for result in results)
    return Outcomes(*columns, matches=matches.numpy() if keep_matches else None)


def accumulate(outcomes: Outcomes, rules: Rules, *, keep_all: bool = False) -> Curves:
    """Accumulates in C++; see `core.accumulate`."""
    precision, recall, scores = torch.ops.cqdino_d2.accumulate_outcomes(
        _tensor(outcomes.starts, np.int64),
        _tensor(outcomes.ends, np.int64),
        _tensor(outcomes.scores, np.float64),
        _tensor(outcomes.ranks, np.int32),
        _tensor(outcomes.codes, np.int32),
        _tensor(outcomes.masks, np.int32),
        _tensor(outcomes.num_boxes, np.int64),
        _tensor(rules.iou_thresholds, np.float64),
        _tensor(rules.recall_thresholds, np.float64),
        *_axes(rules),
        keep_all,
    )
    return Curves(precision.numpy(), recall.numpy(), scores.numpy() if keep_all else None)
