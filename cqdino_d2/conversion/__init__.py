"""Released files made into ours: needs configs, datasets and models besides `checkpoint`.

What needs Detectron2 is imported when first asked for: converting annotations does without it.
"""

from typing import TYPE_CHECKING, Any

from .request import ConversionOutcome, ConversionRequest

if TYPE_CHECKING:
    from .released_file import convert_released_file

__all__ = ["ConversionOutcome", "ConversionRequest", "convert_released_file"]


def __getattr__(name: str) -> Any:
    if name != "convert_released_file":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .. import needs_detectron2  # noqa: F401  says how to get it
    from .released_file import convert_released_file

    return convert_released_file
