"""The public deformable-attention function."""

from __future__ import annotations

from torch import Tensor

from .reference import multi_scale_deformable_attention_reference


def backend() -> str:
    """Names the implementation in use: ``"reference"``, plain PyTorch on any device."""
    return "reference"


def multi_scale_deformable_attention(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, equation 3).

    Args:
        value: (B, T, H, C_h), T tokens of all levels, H heads of C_h channels.
        spatial_shapes: (L, 2) int64, height and width of each level; their areas sum to T.
        level_start_index: (L,) int64, the first token of each level.
        sampling_locations: (B, Q, H, L, P, 2) in (x, y), [0, 1] over each level's map
            (align_corners=False); samples outside are zero.
        attention_weights: (B, Q, H, L, P), meant to sum to 1 over levels and points.

    Returns:
        (B, Q, H * C_h).

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check_shapes(value, spatial_shapes, sampling_locations, attention_weights)
    return multi_scale_deformable_attention_reference(
        value, spatial_shapes, level_start_index, sampling_locations, attention_weights
    )


def _check_shapes(
    value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> None:
    if value.dim() != 4:
        raise ValueError(f"value must be (B, T, H, C_h), got {tuple(value.shape)}")
    if sampling_locations.dim() != 6 or sampling_locations.shape[-1] != 2:
        raise ValueError(
            f"sampling_locations must be (B, Q, H, L, P, 2), got {tuple(sampling_locations.shape)}"
        )
    if attention_weights.shape != sampling_locations.shape[:-1]:
        raise ValueError(
            f"attention_weights must be {tuple(sampling_locations.shape[:-1])} like the sampling "
            f"locations, got {tuple(attention_weights.shape)}"
        )
    batch, _, heads, levels = sampling_locations.shape[:4]
    if (value.shape[0], value.shape[2], spatial_shapes.shape[0]) != (batch, heads, levels):
        raise ValueError(
            f"value {tuple(value.shape)} and spatial_shapes {tuple(spatial_shapes.shape)} do not "
            f"fit sampling_locations {tuple(sampling_locations.shape)}"
        )
