"""The matching core: with C++ where the extension is there, else with NumPy."""

from __future__ import annotations

from . import compiled, reference
from .problem import Curves, Problem

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


def measure(
    problem: Problem,
    *,
    keep_scores: bool = False,
    keep_matches: bool = False,
    backend: str | None = None,
) -> Curves:
    """Matches detections to boxes and accumulates precision and recall.

    The rules are those of pycocotools 2.0 (`COCOeval.evaluateImg`, `accumulate`) with the
    extensions that `Problem` names.

    Args:
        problem: what to match by which rules.
        keep_scores: whether the curves carry the scores (as large as the precision).
        keep_matches: whether they carry what each detection was matched to.
        backend: 'compiled' or 'reference'; None chooses.

    Raises:
        ValueError: the backend cannot be used.
    """
    chosen = compiled if choose_backend(backend) == "compiled" else reference
    return chosen.measure(problem, keep_scores=keep_scores, keep_matches=keep_matches)
