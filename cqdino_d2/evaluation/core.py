"""The matching core: with C++ where the extension is there, else with NumPy."""

from __future__ import annotations

from types import ModuleType

from . import compiled, reference
from .memory import require_memory
from .problem import Curves, Outcomes, Problem, Rules

BACKENDS = ("compiled", "reference")


def choose_backend(name: str | None = None) -> str:
    """The backend that will run: 'compiled' where it can, unless one is asked for.

    Raises:
        ValueError: no such backend, or 'compiled' without the extension.
    """
    if name is None:
        return "compiled" if compiled.is_available() else "reference"
    if name not in BACKENDS:
        raise ValueError(f"no backend {name!r}, expected one of {BACKENDS}")
    if name == "compiled" and not compiled.is_available():
        raise ValueError(f"the compiled backend cannot be used: {compiled.reason()}")
    return name


def match(problem: Problem, *, keep_matches: bool = False, backend: str | None = None) -> Outcomes:
    """Matches detections to boxes.

    The rules are those of pycocotools 2.0 (`COCOeval.evaluateImg`) with the extensions that
    `Problem` names.

    Args:
        problem: what to match by which rules.
        keep_matches: whether the outcomes tell what each detection was matched to.
        backend: 'compiled' or 'reference'; None chooses.

    Raises:
        ValueError: the backend cannot be used.
    """
    return _module(backend).match(problem, keep_matches=keep_matches)


def accumulate(
    outcomes: Outcomes,
    rules: Rules,
    *,
    keep_all: bool = False,
    backend: str | None = None,
) -> Curves:
    """Precision and recall of every category, as pycocotools 2.0 (`COCOeval.accumulate`).

    Args:
        outcomes: of the matching.
        rules: by which it was matched.
        keep_all: whether the curves carry the scores and the precision at every limit of
            detections. Else there is only the precision at the largest one: a tensor of 430 MB
            for V3Det.
        backend: 'compiled' or 'reference'; None chooses.

    Raises:
        ValueError: the backend cannot be used.
        MemoryError: the curves do not fit into memory.
    """
    limits = 2 * len(rules.max_dets) if keep_all else 1
    values = outcomes.num_boxes.size * limits * len(rules.iou_thresholds)
    values *= len(rules.recall_thresholds)
    require_memory(8 * values, f"the curves of {len(outcomes.starts)} categories")
    return _module(backend).accumulate(outcomes, rules, keep_all=keep_all)


def _module(backend: str | None) -> ModuleType:
    return compiled if choose_backend(backend) == "compiled" else reference
