"""Released files made into ours: what needs configs, data sets and models beside `checkpoint`."""

from .released_file import convert_released_file
from .request import ConversionOutcome, ConversionRequest

__all__ = ["ConversionOutcome", "ConversionRequest", "convert_released_file"]
