"""Multi-scale deformable attention."""

from .deformable_attention import backend, multi_scale_deformable_attention

__all__ = ["backend", "multi_scale_deformable_attention"]
