"""Multi-scale deformable attention in plain PyTorch: the readable definition of the op."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def multi_scale_deformable_attention_reference(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    level_sizes: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Samples every level bilinearly and sums the samples with their weights.

    Shapes and ranges as in `cqdino_d2.ops.multi_scale_deformable_attention`. Half and bfloat16
    are computed in float32 and rounded once.
    """
    batch, _, heads, channels = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    exact = value.to(torch.promote_types(value.dtype, torch.float32))
    grid = 2 * sampling_locations.to(exact.dtype) - 1
    if level_sizes is None:
        level_sizes, starts = spatial_shapes.tolist(), level_start_index.tolist()
    else:
        areas = [height * width for height, width in level_sizes]
        starts = [sum(areas[:level]) for level in range(len(areas))]
    sampled = []
    for level, ((height, width), start) in enumerate(zip(level_sizes, starts, strict=True)):
        level_map = exact[:, start : start + height * width].permute(0, 2, 3, 1)
        level_map = level_map.reshape(batch * heads, channels, height, width)
        level_grid = grid[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(level_map, level_grid, align_corners=False))
    samples = torch.stack(sampled, dim=-2).flatten(-2)  # (B * H, C_h, Q, L * P)
    weights = attention_weights.transpose(1, 2).reshape(
        batch * heads, 1, queries, len(level_sizes) * points
    )
    output = (samples * weights.to(exact.dtype)).sum(dim=-1)
    return output.view(batch, heads * channels, queries).transpose(1, 2).to(value.dtype)


def locations_and_weights(
    spatial_shapes: Tensor, references: Tensor, sampling_offsets: Tensor, attention_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Sampling locations (B, Q, H, L, P, 2) and attention weights (B, Q, H, L, P).

    Shapes and ranges as in `cqdino_d2.ops.deformable_attention_from_offsets`.
    """
    weights = attention_logits.flatten(-2).softmax(dim=-1).view_as(attention_logits)
    points = sampling_offsets.shape[-2]
    references = references[:, :, None, :, None]
    if references.shape[-1] == 2:
        scale = 1 / spatial_shapes.flip(-1)[:, None].to(references.dtype)
    else:
        scale = references[..., 2:] * (0.5 / points)
    return references[..., :2] + sampling_offsets * scale, weights
