"""From image tokens and selected categories to predictions."""

from .decoder import Decoder
from .denoising import CategoryContent, Denoising, ReleasedLabelContent
from .encoder import FusionEncoder, ImageEncoder
from .heads import ClassificationHead, ContrastiveHead
from .query_selection import QuerySelection
from .tokenizer import ImageTokenizer

__all__ = [
    "CategoryContent",
    "ClassificationHead",
    "ContrastiveHead",
    "Decoder",
    "Denoising",
    "FusionEncoder",
    "ImageEncoder",
    "ImageTokenizer",
    "QuerySelection",
    "ReleasedLabelContent",
]
