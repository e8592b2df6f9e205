"""Rows of a `RaggedIndex` as tensors, on any device."""

from __future__ import annotations

import torch
from torch import Tensor


def gather_rows(offsets: Tensor, indices: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Entries of many rows of a `RaggedIndex` at once, on any device.

    Args:
        offsets: (rows + 1,) int64 of the index.
        indices: (entries,) int64 of the index.
        rows: (n,) int64 wanted rows, possibly repeated.

    Returns:
        (m,) the entries of all wanted rows, and (m,) int64 which of the n each belongs to.
    """
    start, count = offsets[rows], offsets[rows + 1] - offsets[rows]
    place = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
    before = count.cumsum(0) - count
    return indices[(start - before)[place] + torch.arange(len(place), device=rows.device)], place
