"""Weights between those before a fine-tuning and those after it (WiSE-FT, arXiv 2109.01903)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def interpolated(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Weights on the straight line from one model to another.

    Args:
        before: name -> tensor.
        after: the same names and shapes.
        share: 0 gives those before, 1 those after; whole numbers (counters) are always those after.

    Raises:
        ValueError: a share outside 0..1, or weights of different models (names are given).
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of the way lies in 0..1, got {share}")
    unlike = sorted(
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or before[name].shape != after[name].shape
    )
    if unlike:
        raise ValueError(
            f"the weights before and after are of different models: {len(unlike)} of "
            f"{len(after)} differ in name or shape, {', '.join(unlike[:5])}"
        )
    return {
        name: before[name].lerp(own, share) if own.is_floating_point() else own.clone()
        for name, own in after.items()
    }
