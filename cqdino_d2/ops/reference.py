"""Multi-scale deformable attention in plain PyTorch: the readable definition of the op."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def multi_scale_deformable_attention_reference(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Samples every level bilinearly and sums the samples with their weights.

    Shapes and ranges as in `cqdino_d2.ops.multi_scale_deformable_attention`.
    """
    batch, _, heads, channels = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    grid = 2 * sampling_locations - 1
    sampled = []
    for level, (height, width) in enumerate(spatial_shapes.tolist()):
        start = int(level_start_index[level])
        level_map = value[:, start : start + height * width].permute(0, 2, 3, 1)
        level_map = level_map.reshape(batch * heads, channels, height, width)
        level_grid = grid[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(
            F.grid_sample(level_map, level_grid.to(level_map.dtype), align_corners=False)
        )
    samples = torch.stack(sampled, dim=-2).flatten(-2)  # (B * H, C_h, Q, L * P)
    weights = attention_weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    output = (samples * weights.to(samples.dtype)).sum(dim=-1)
    assert samples.shape[-1] == len(spatial_shapes) * points
    return output.view(batch, heads * channels, queries).transpose(1, 2)
