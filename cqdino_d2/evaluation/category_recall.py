"""ARC: how many of an image's categories the selection found."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np


def category_recall(
    selected: Mapping[int, Collection[int]], present: Mapping[int, Collection[int]]
) -> dict[str, float]:
    """Average recall of the category selection.

    Args:
        selected: image_id -> the categories that the model selected.
        present: image_id -> the categories of its ground truth. Images that are not in
            ``selected`` or have no ground truth do not count.

    Returns:
        ``ARC``: the mean over images of the share of their categories that was selected.
        ``ARC_macro``: for each category the share of its images in which it was selected; the
        mean over categories. Both in 0..100, nan without ground truth.
    """
    per_image: list[float] = []
    found: dict[int, int] = {}
    total: dict[int, int] = {}
    for image_id, categories in present.items():
        if not categories or image_id not in selected:
            continue
        chosen, wanted = set(selected[image_id]), set(categories)
        per_image.append(len(wanted & chosen) / len(wanted))
        for category in wanted:
            total[category] = total.get(category, 0) + 1
            found[category] = found.get(category, 0) + (category in chosen)
    if not per_image:
        return {"ARC": float("nan"), "ARC_macro": float("nan")}
    shares = [found[category] / count for category, count in total.items()]
    return {"ARC": float(100 * np.mean(per_image)), "ARC_macro": float(100 * np.mean(shares))}
