"""Plain data that travels between the stages.

Shapes throughout the package: B images, T tokens over all levels, L levels, V vocabulary,
K selected categories, S class slots, Q object queries, N denoising queries or boxes, C channels.
Index spaces: ``dataset_id`` (the id in a dataset's JSON), ``vocab_id`` (0..V-1, -1 = none),
``slot_id`` (0..S-1 among the class slots of an image, -1 = none).

What holds tensors is imported when first asked for: scoring a file does without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .hierarchy import CategoryHierarchy, RaggedIndex
from .names import log_to_terminal, one_line, show_records, shown_lines
from .vocabulary import Vocabulary, flat_vocabulary, load_vocabulary, random_vocabulary

if TYPE_CHECKING:
    from .captions import SEPARATORS, caption_of, words_of
    from .class_slots import NO_CATEGORY, CategoryScores, ClassQueries, ClassSlots, Phrases
    from .detected import Detected
    from .gathering import gather_rows
    from .prompt_tokens import PromptTokens
    from .queries import (
        DecoderOutput,
        DenoisingGroup,
        ImageTargets,
        LayerPredictions,
        ListedCategories,
        Proposals,
    )
    from .requests import ClassRequest, TextPrompt
    from .tokens import ImageTokens

_FILE_OF = {
    "CategoryScores": "class_slots",
    "ClassQueries": "class_slots",
    "ClassRequest": "requests",
    "ClassSlots": "class_slots",
    "DecoderOutput": "queries",
    "DenoisingGroup": "queries",
    "Detected": "detected",
    "ImageTargets": "queries",
    "ImageTokens": "tokens",
    "LayerPredictions": "queries",
    "ListedCategories": "queries",
    "NO_CATEGORY": "class_slots",
    "Phrases": "class_slots",
    "PromptTokens": "prompt_tokens",
    "Proposals": "queries",
    "SEPARATORS": "captions",
    "TextPrompt": "requests",
    "caption_of": "captions",
    "gather_rows": "gathering",
    "words_of": "captions",
}

__all__ = [
    "CategoryHierarchy",
    "CategoryScores",
    "ClassQueries",
    "ClassRequest",
    "ClassSlots",
    "DecoderOutput",
    "DenoisingGroup",
    "Detected",
    "ImageTargets",
    "ImageTokens",
    "LayerPredictions",
    "ListedCategories",
    "NO_CATEGORY",
    "Phrases",
    "PromptTokens",
    "Proposals",
    "RaggedIndex",
    "SEPARATORS",
    "TextPrompt",
    "Vocabulary",
    "caption_of",
    "flat_vocabulary",
    "gather_rows",
    "load_vocabulary",
    "log_to_terminal",
    "one_line",
    "show_records",
    "shown_lines",
    "random_vocabulary",
    "words_of",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .. import needs_torch  # noqa: F401  says how to get it

    return getattr(import_module(f".{_FILE_OF[name]}", __name__), name)
