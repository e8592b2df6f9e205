"""How often a dataset shows its categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..structures import Vocabulary
from .loader import get_training_records
from .samplers import record_category_pairs


def category_image_counts(names: str | Sequence[str], vocabulary: Vocabulary) -> Tensor:
    """(V,) int64: in how many training images of datasets each category has a box.

    Args:
        names: one or several registered datasets.
        vocabulary: the V categories.

    Raises:
        ValueError: the sets cannot be trained with.
        FileNotFoundError: a file is missing.
    """
    records = get_training_records(names, vocabulary=vocabulary)
    shown = record_category_pairs(records.categories())[:, 1]
    return torch.from_numpy(np.bincount(shown, minlength=len(vocabulary)))
