"""Building blocks shared by the stages."""

from .. import needs_torch  # noqa: F401  says how to get PyTorch
from .attention import CrossAttention, merge_heads, split_heads
from .boxes import cxcywh_to_xyxy, inverse_sigmoid, paired_generalized_iou, xyxy_to_cxcywh
from .cpu import (
    accelerate_for_cpu,
    batched_linear,
    dropout,
    form_of,
    in_chunks,
    linear,
    takes_onednn,
)
from .deformable_attention import MultiScaleDeformableAttention
from .feed_forward import MLP, FeedForward
from .makers import factory, named
from .memo import ParameterMemo, autocast_dtype
from .position import box_sine_encoding, map_sine_encoding, sine_encoding
from .precision import (
    autocast,
    check_precision,
    chosen_dtype,
    emulation_warning,
    instruction_set,
)
from .recompute import check_recomputation, recomputing

__all__ = [
    "MLP",
    "CrossAttention",
    "FeedForward",
    "MultiScaleDeformableAttention",
    "ParameterMemo",
    "accelerate_for_cpu",
    "autocast",
    "autocast_dtype",
    "batched_linear",
    "box_sine_encoding",
    "check_precision",
    "check_recomputation",
    "chosen_dtype",
    "cxcywh_to_xyxy",
    "dropout",
    "emulation_warning",
    "factory",
    "form_of",
    "in_chunks",
    "instruction_set",
    "inverse_sigmoid",
    "linear",
    "map_sine_encoding",
    "merge_heads",
    "named",
    "paired_generalized_iou",
    "recomputing",
    "sine_encoding",
    "split_heads",
    "takes_onednn",
    "xyxy_to_cxcywh",
]
