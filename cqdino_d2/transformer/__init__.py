"""From image tokens and selected categories to predictions."""

from .decoder import Decoder
from .denoising import CategoryContent, Denoising, ReleasedLabelContent
from .encoder import FusionEncoder
from .query_selection import QuerySelection
from .tokenizer import ImageTokenizer

__all__ = [
    "CategoryContent",
    "Decoder",
    "Denoising",
    "FusionEncoder",
    "ImageTokenizer",
    "QuerySelection",
    "ReleasedLabelContent",
]
