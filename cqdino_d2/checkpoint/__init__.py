"""Converters from other checkpoints."""

from .released import ReleasedConversion, convert_released_weights

__all__ = ["ReleasedConversion", "convert_released_weights"]
