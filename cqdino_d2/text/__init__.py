"""From names to text features, and from prompts to tokens."""

from .. import needs_torch  # noqa: F401  says how to get PyTorch
from .prompt_building import (
    caption_phrases,
    caption_prompt,
    check_phrases,
    names_prompt,
    names_prompts,
    vocabulary_prompt,
)
from .prompt_tokenizer import PromptTokenizer
from .wanted import Wanted, wanted_prompts

__all__ = [
    "PromptTokenizer",
    "Wanted",
    "caption_phrases",
    "caption_prompt",
    "check_phrases",
    "names_prompt",
    "names_prompts",
    "vocabulary_prompt",
    "wanted_prompts",
]
