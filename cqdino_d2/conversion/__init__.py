"""Released files made into ours: what needs configs, data sets and models beside `checkpoint`."""

from .released_file import ConversionOutcome, ConversionRequest, convert_released_file

__all__ = ["ConversionOutcome", "ConversionRequest", "convert_released_file"]
