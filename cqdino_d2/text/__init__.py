"""From names to text features, and from prompts to tokens."""

from .prompt_building import caption_prompt, names_prompts
from .prompt_tokenizer import PromptTokenizer

__all__ = ["PromptTokenizer", "caption_prompt", "names_prompts"]
