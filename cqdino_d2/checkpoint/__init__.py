"""Converters from other checkpoints."""

from .. import needs_detectron2  # noqa: F401  says how to get Detectron2
from .families import Family, family_of
from .grounding import convert_official_grounding_weights
from .grounding_mmdet import convert_mmdet_grounding_weights
from .grounding_transformers import convert_transformers_grounding_weights
from .mmengine_file import read_mmengine_file, weights_of
from .released import convert_released_weights
from .released_names import ReleasedConversion
from .renamed import rename_before_loading, with_present_names
from .report import ConversionReport, describe_shapes
from .richsem import convert_richsem_weights
from .unset_parameters import assign_weights, names_without_numbers, unset_parameters
from .weights_source import read_released

__all__ = [
    "ConversionReport",
    "Family",
    "ReleasedConversion",
    "assign_weights",
    "convert_mmdet_grounding_weights",
    "convert_official_grounding_weights",
    "convert_released_weights",
    "convert_richsem_weights",
    "convert_transformers_grounding_weights",
    "describe_shapes",
    "family_of",
    "names_without_numbers",
    "read_mmengine_file",
    "read_released",
    "rename_before_loading",
    "unset_parameters",
    "weights_of",
    "with_present_names",
]
