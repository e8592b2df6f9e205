"""Predictors as the commands and the page want them."""

from __future__ import annotations

from collections.abc import Sequence

from .category_predictor import CategoryPredictor
from .predictor_config import get_predictor_cfg


def load_predictor(
    config_file: str,
    weights: str,
    *,
    device: str | None = None,
    overrides: Sequence[str] = (),
) -> CategoryPredictor:
    """A predictor of a config and weights, as `get_predictor_cfg` takes them."""
    cfg = get_predictor_cfg(config_file, weights=weights, overrides=overrides, device=device)
    return CategoryPredictor(cfg)


def restricted(
    predictor: CategoryPredictor,
    only: Sequence[str],
    branches: Sequence[str],
    num_selected: int | None,
) -> CategoryPredictor:
    """A predictor as the command line wants it."""
    if only or branches:
        predictor = predictor.restrict(only, branches=branches)
    return predictor if num_selected is None else predictor.selecting(num_selected)
