"""From names to text features, and from prompts to tokens.

What needs transformers is imported when first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .prompt_building import caption_prompt, names_prompts
from .prompt_tokenizer import PromptTokenizer

if TYPE_CHECKING:
    from .language_model import BertLanguageModel

__all__ = ["BertLanguageModel", "PromptTokenizer", "caption_prompt", "names_prompts"]


def __getattr__(name: str) -> Any:
    if name != "BertLanguageModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".language_model", __name__).BertLanguageModel
