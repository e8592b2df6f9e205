"""Plain data that travels between the stages.

Shapes throughout the package: B images, T tokens over all levels, L levels, V vocabulary,
K selected categories, Q object queries, N denoising queries or boxes, C channels.
Index spaces: ``dataset_id`` (the id in a data set's JSON), ``vocab_id`` (0..V-1), ``slot_id``
(0..K-1 among the categories an image selected, -1 = not selected).

What holds tensors is imported when first asked for: scoring a file does without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .hierarchy import CategoryHierarchy, RaggedIndex
from .names import display_name, printable
from .vocabulary import Vocabulary, load_vocabulary, random_vocabulary

if TYPE_CHECKING:
    from .categories import CategoryOffer, SelectedCategories
    from .gathering import gather_rows
    from .queries import DecoderOutput, DenoisingGroup, ImageTargets, Proposals
    from .tokens import ImageTokens

_FILE_OF = {
    "CategoryOffer": "categories",
    "DecoderOutput": "queries",
    "DenoisingGroup": "queries",
    "ImageTargets": "queries",
    "ImageTokens": "tokens",
    "Proposals": "queries",
    "SelectedCategories": "categories",
    "gather_rows": "gathering",
}

__all__ = [
    "CategoryHierarchy",
    "CategoryOffer",
    "DecoderOutput",
    "DenoisingGroup",
    "ImageTargets",
    "ImageTokens",
    "Proposals",
    "RaggedIndex",
    "SelectedCategories",
    "Vocabulary",
    "display_name",
    "gather_rows",
    "load_vocabulary",
    "printable",
    "random_vocabulary",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_FILE_OF[name]}", __name__), name)
