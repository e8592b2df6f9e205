"""The public deformable-attention functions."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from ..extension import OPERATORS
from . import compiled
from .reference import locations_and_weights, multi_scale_deformable_attention_reference

_reference_only: ContextVar[bool] = ContextVar("reference_only", default=False)


@contextmanager
def reference_only(wanted: bool = True) -> Iterator[None]:
    """Within this, plain PyTorch is used on every device, for formats that lack our operators."""
    token = _reference_only.set(wanted)
    try:
        yield
    finally:
        _reference_only.reset(token)


def backend(device: torch.device | str = "cpu") -> str:
    """Names the implementation that is used for tensors on ``device``.

    ``"compiled"``: the C++ or CUDA kernels; ``"reference"``: plain PyTorch on any device.
    """
    if _reference_only.get():
        return "reference"
    return "compiled" if torch.device(device).type in compiled.DEVICES else "reference"


def cpu_capability() -> str | None:
    """Names the instruction set of the kernels on the CPU: "avx512", "avx2" or "baseline".

    ``CQDINO_CPU_CAPABILITY`` in the environment (read once) chooses it; without it the kernels
    follow PyTorch's own choice, and so ``ATEN_CPU_CAPABILITY``.

    Returns:
        None where the kernels are not in use on the CPU.

    Raises:
        ValueError: the variable names no instruction set, or one that the processor lacks. The
            operators raise the same.
    """
    return torch.ops.cqdino_d2.cpu_capability() if backend("cpu") == "compiled" else None


def multi_scale_deformable_attention(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    level_sizes: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, equation 3).

    Half and bfloat16 values are added up in float32. Under autocast the values and weights are of
    autocast's type. Locations stay float32 (float64 with float64 values).

    Args:
        value: (B, T, H, C_h), T tokens of all levels, H heads of C_h channels.
        spatial_shapes: (L, 2) int64, height and width of each level; their areas sum to T.
        level_start_index: (L,) int64, the first token of each level.
        sampling_locations: (B, Q, H, L, P, 2) in (x, y), [0, 1] over each level's map
            (align_corners=False); samples outside are zero.
        attention_weights: (B, Q, H, L, P), meant to sum to 1 over levels and points.
        level_sizes: ``spatial_shapes`` as numbers, where they are known: the reference can be
            traced with them.

    Returns:
        (B, Q, H * C_h).

    Raises:
        ValueError: shapes that do not belong together, or levels that do not lie within the
            tokens (on a GPU the output is NaN then).
    """
    _check_shapes(value, spatial_shapes, sampling_locations, attention_weights)
    if not _use_compiled(value):
        return multi_scale_deformable_attention_reference(
            value,
            spatial_shapes,
            level_start_index,
            sampling_locations,
            attention_weights,
            level_sizes,
        ).to(_result_type(value))
    return torch.ops.cqdino_d2.deformable_attention(
        value,
        spatial_shapes,
        level_start_index,
        sampling_locations.to(_place_type(value)),
        attention_weights.to(value.dtype),
    )


def deformable_attention_from_offsets(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    references: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    level_sizes: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """The same with the softmax and the arithmetic of the locations inside.

    Args:
        value: (B, T, H, C_h), as above; so are the shapes and the index.
        spatial_shapes: (L, 2) int64.
        level_start_index: (L,) int64.
        references: (B, Q, L, 2) centres (x, y) or (B, Q, L, 4) boxes (cx, cy, w, h), each relative
            to the level's map. Around a centre an offset of 1 is one cell, within a box it is half
            the box's size over the number of points.
        sampling_offsets: (B, Q, H, L, P, 2) in (x, y).
        attention_logits: (B, Q, H, L, P), the softmax is over levels and points.
        level_sizes: as above.

    Returns:
        (B, Q, H * C_h).

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check_shapes(value, spatial_shapes, sampling_offsets, attention_logits)
    _check_references(references, sampling_offsets)
    # The kernels have no gradient for the references, which detectors detach.
    if not _use_compiled(value) or (references.requires_grad and torch.is_grad_enabled()):
        locations, weights = locations_and_weights(
            spatial_shapes, references, sampling_offsets, attention_logits
        )
        return multi_scale_deformable_attention(
            value, spatial_shapes, level_start_index, locations, weights, level_sizes
        )
    return torch.ops.cqdino_d2.deformable_attention(
        value,
        spatial_shapes,
        level_start_index,
        sampling_offsets.to(value.dtype),
        attention_logits.to(value.dtype),
        references.to(_place_type(value)),
    )


def _use_compiled(value: Tensor) -> bool:
    if _reference_only.get():
        return False
    if value.device.type in compiled.DEVICES:
        return True
    if value.is_cuda:
        _warn_of_missing_kernels()
    return False


@functools.cache
def _warn_of_missing_kernels() -> None:
    problem = OPERATORS.reason() or "it was built without its CUDA part"
    message = "deformable attention runs on the GPU without its own kernels, slowly: %s"
    logging.getLogger(__name__).warning(message, problem)


def _place_type(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


def _result_type(value: Tensor) -> torch.dtype:
    """Autocast's type where that is on, as the compiled operator has it."""
    device = value.device.type
    if torch.is_autocast_enabled(device) and value.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return value.dtype


def _check_shapes(value: Tensor, spatial_shapes: Tensor, places: Tensor, weights: Tensor) -> None:
    if value.dim() != 4:
        raise ValueError(f"value must be (B, T, H, C_h), got {tuple(value.shape)}")
    if places.dim() != 6 or places.shape[-1] != 2:
        raise ValueError(
            f"sampling locations or offsets must be (B, Q, H, L, P, 2), got {tuple(places.shape)}"
        )
    if weights.shape != places.shape[:-1]:
        raise ValueError(
            f"attention weights or logits must be {tuple(places.shape[:-1])} like the sampling "
            f"places, got {tuple(weights.shape)}"
        )
    batch, _, heads, levels = places.shape[:4]
    if (value.shape[0], value.shape[2], spatial_shapes.shape[0]) != (batch, heads, levels):
        raise ValueError(
            f"value {tuple(value.shape)} and spatial_shapes {tuple(spatial_shapes.shape)} do not "
            f"fit sampling places {tuple(places.shape)}"
        )


def _check_references(references: Tensor, places: Tensor) -> None:
    batch, queries, _, levels = places.shape[:4]
    if references.shape[:-1] != (batch, queries, levels) or references.shape[-1] not in (2, 4):
        raise ValueError(
            f"references must be {(batch, queries, levels)} and 2 or 4, "
            f"got {tuple(references.shape)}"
        )
