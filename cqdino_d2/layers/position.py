"""Sine position encodings."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_encoding(coordinates: Tensor, num_features: int, temperature: float) -> Tensor:
    """Encodes numbers by sines and cosines of falling frequency.

    Args:
        coordinates: (...), usually in [0, 1]; they are multiplied by 2 pi.
        num_features: even number of features per coordinate.
        temperature: ratio of the highest to the lowest frequency.

    Returns:
        (..., num_features), sine and cosine of one frequency side by side.
    """
    pair = torch.arange(num_features // 2, dtype=torch.float32, device=coordinates.device)
    angle = 2 * math.pi * coordinates[..., None] / temperature ** (2 * pair / num_features)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def box_sine_encoding(boxes: Tensor, num_features: int, temperature: float = 10000.0) -> Tensor:
    """(..., 4) cxcywh -> (..., 4 * num_features), in the order (y, x, w, h) of DAB-DETR."""
    ordered = boxes[..., [1, 0, 2, 3]]
    return sine_encoding(ordered, num_features, temperature).flatten(-2)


def map_sine_encoding(padding_mask: Tensor, num_features: int, temperature: float) -> Tensor:
    """Encodes the places of a padded map, counted over the part that is not padding.

    Args:
        padding_mask: (B, H, W) bool, True where padded.
        num_features: features per axis.
        temperature: see `sine_encoding`.

    Returns:
        (B, H, W, 2 * num_features), y first.
    """
    inside = (~padding_mask).float()
    y, x = inside.cumsum(dim=1), inside.cumsum(dim=2)
    y = y / (y[:, -1:, :] + 1e-6)
    x = x / (x[:, :, -1:] + 1e-6)
    return torch.cat(
        [sine_encoding(axis, num_features, temperature) for axis in (y, x)],
        dim=-1,
    )
