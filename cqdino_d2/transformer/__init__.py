"""From image tokens and class slots to predictions."""

from .. import needs_torch  # noqa: F401  says how to get PyTorch
from .cpu_fusion import ChunkedBiAttention
from .cross_scale import CrossScaleFusion
from .decoder import Decoder
from .denoising import CategoryContent, Denoising, ReleasedLabelContent, TextContent
from .encoder import Encoder
from .fusion import BiAttention
from .heads import ClassificationHead, ContrastiveHead, HiddenState, TextTableHead
from .image_layers import AttentionEncoderLayer, DeformableEncoderLayer
from .query_selection import QuerySelection
from .slot_layers import SlotSelfAttentionLayer
from .tokenizer import ImageTokenizer

__all__ = [
    "AttentionEncoderLayer",
    "BiAttention",
    "CategoryContent",
    "ChunkedBiAttention",
    "ClassificationHead",
    "ContrastiveHead",
    "CrossScaleFusion",
    "Decoder",
    "Denoising",
    "DeformableEncoderLayer",
    "Encoder",
    "HiddenState",
    "ImageTokenizer",
    "QuerySelection",
    "ReleasedLabelContent",
    "SlotSelfAttentionLayer",
    "TextContent",
    "TextTableHead",
]
