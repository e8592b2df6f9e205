"""What a text-prompted detector is worth: referring expressions and phrases.

What needs Detectron2 is imported when first asked for: scoring arrays does without it and torch.
"""

from importlib import import_module
from typing import Any

from .protocols import ExpressionProtocol, GeneralizedProtocol, PhraseProtocol, text_protocol

__all__ = [
    "ExpressionProtocol",
    "GeneralizedProtocol",
    "PhraseProtocol",
    "TextEvaluator",
    "text_protocol",
]


def __getattr__(name: str) -> Any:
    if name != "TextEvaluator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ... import needs_detectron2  # noqa: F401  says how to get it

    return import_module(".evaluator", __name__).TextEvaluator
