"""Multi-scale deformable attention."""

from .. import needs_torch  # noqa: F401  says how to get PyTorch
from .deformable_attention import (
    backend,
    cpu_capability,
    deformable_attention_from_offsets,
    multi_scale_deformable_attention,
    reference_only,
)

__all__ = [
    "backend",
    "cpu_capability",
    "deformable_attention_from_offsets",
    "multi_scale_deformable_attention",
    "reference_only",
]
