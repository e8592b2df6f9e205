"""What somebody asks for, in whichever form, as prompts with names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..structures import TextPrompt
from .prompt_building import caption_prompt, check_phrases, names_prompts
from .prompt_tokenizer import PromptTokenizer
from .prompts import spoken_name


@dataclass(frozen=True)
class Wanted:
    """What to look for.

    Attributes:
        names: of the things by vocab_id, for people; the negatives last.
        prompts: that together ask for all of them.
        num_negatives: how many of the names may win a box and are then dropped.
    """

    names: tuple[str, ...]
    prompts: tuple[TextPrompt, ...]
    num_negatives: int = 0


def wanted_prompts(
    wanted: str | TextPrompt | Sequence[str | Sequence[str]],
    tokenizer: PromptTokenizer,
    *,
    negatives: Sequence[str] = (),
) -> Wanted:
    """Reads what somebody asks for.

    Args:
        wanted: a caption ("a cat. a red ball."), a prompt with its own spans, or names, some of
            which may be lists of synonyms. A caption of more tokens than the model reads is cut
            between its phrases.
        tokenizer: of the model.
        negatives: names that may win a box and are then dropped; not with a prompt.

    Raises:
        TypeError: something else.
        ValueError: see `caption_prompt` and `names_prompts`.
    """
    names: Sequence[str | Sequence[str]]
    if isinstance(wanted, TextPrompt):
        if negatives:
            raise ValueError("a prompt with its own spans takes no negatives: put them into it")
        check_phrases(wanted, tokenizer, may_be_alike=wanted.phrase_ids)
        return Wanted(_names(wanted), (wanted,))
    if isinstance(wanted, str):
        prompt = caption_prompt(wanted)
        names = _names(prompt)
        if not negatives and len(tokenizer.encode(prompt.caption).ids) <= tokenizer.max_tokens:
            check_phrases(prompt, tokenizer, may_be_alike=prompt.phrase_ids)
            return Wanted(names, (prompt,))
    elif isinstance(wanted, Sequence):
        names = wanted
    else:
        raise TypeError(
            f"expected a caption, a TextPrompt or a list of names, got {type(wanted).__name__}"
        )
    prompts = names_prompts(
        names, tokenizer, negatives=negatives, allow_alike=isinstance(wanted, str)
    )
    shown = [name if isinstance(name, str) else name[0] for name in (*names, *negatives)]
    return Wanted(tuple(map(spoken_name, shown)), prompts, len(negatives))


def _names(prompt: TextPrompt) -> tuple[str, ...]:
    """What the things of a prompt are called: their first phrase's words."""
    if not prompt.spans:
        return (spoken_name(prompt.caption),)
    names = [""] * (1 + max(prompt.phrase_ids))
    for phrase, vocab_id in enumerate(prompt.phrase_ids):
        names[vocab_id] = names[vocab_id] or spoken_name(prompt.words(phrase))
    return tuple(names)
