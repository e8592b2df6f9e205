"""Released files made into ours: needs configs, datasets and models besides `checkpoint`."""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
from .released_file import convert_released_file
from .request import ConversionOutcome, ConversionRequest

__all__ = ["ConversionOutcome", "ConversionRequest", "convert_released_file"]
