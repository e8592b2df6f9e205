"""Prompts of datasets: from names, and from the texts of images."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

from ..annotations.odinw import Wording
from ..annotations.phrase_boxes import Spans
from ..structures import SEPARATORS, TextPrompt, one_line, words_of

logger = logging.getLogger(__name__)
_NOTHING = Wording()
_BRACKETS = re.compile(r"\([^()]*\)")


def prompt_of_names(
    names: Sequence[str], wordings: Mapping[str, Wording], *, drop_brackets: bool = False
) -> TextPrompt:
    """All names in one caption; the place of a name is its vocab_id.

    Underscores and separators within a name become blanks. A name without words is left out.

    Args:
        names: of the categories.
        wordings: how some of the names stand in the caption.
        drop_brackets: whether 'bow (weapon)' is asked for as 'bow'.

    Raises:
        ValueError: no name has words.
    """
    caption, spans, vocab_ids = "", [], []
    for vocab_id, name in enumerate(names):
        wording = wordings.get(name, _NOTHING)
        said = wording.name or name
        words = words_of(without_brackets(said) if drop_brackets else said)
        if not words:
            continue
        begin = len(caption) + len(wording.prefix)
        caption += f"{wording.prefix}{words}{wording.suffix}. "
        spans.append(((begin, begin + len(words)),))
        vocab_ids.append(vocab_id)
    if not spans:
        raise ValueError(f"none of the {len(names)} categories has a name to look for")
    return TextPrompt(caption.rstrip(), tuple(spans), tuple(vocab_ids))


def without_brackets(name: str) -> str:
    """A name without what stands in brackets, unless it says nothing else."""
    shorter = _BRACKETS.sub(" ", name)
    return shorter if words_of(shorter) else name


def prompt_of_text(caption: str, phrases: Sequence[Spans]) -> TextPrompt:
    """The prompt of an image's own text; it ends with a separator, as in training.

    Args:
        caption: the text.
        phrases: their spans; none: the whole text is one thing.
    """
    if not phrases:
        caption = caption.strip()
    if not caption.rstrip().endswith(SEPARATORS):
        caption += "."
    return TextPrompt(caption, tuple(phrases))


def names_in_order(wanted: Sequence[str], found: Sequence[str], source: str) -> tuple[str, ...]:
    """What the categories of a file are called.

    Args:
        wanted: the names, in the order of the categories' ids or, where they are those of the
            file, in any.
        found: the file's own names by ascending id; they remain where no other one is wanted.
        source: the file.

    Raises:
        ValueError: another number of categories.
    """
    if sorted(map(one_line, wanted)) == sorted(found):
        return tuple(found)
    if len(wanted) != len(found):
        raise ValueError(
            f"{source} has {len(found)} categories ({', '.join(found[:5])} ...), expected the "
            f"{len(wanted)} of this set ({', '.join(wanted[:5])} ...)"
        )
    differing = [
        f"{own!r} as {name!r}" for own, name in zip(found, wanted, strict=True) if own != name
    ]
    logger.info("%s: asks for %s", source, ", ".join(differing))
    return tuple(name if name.strip() else own for own, name in zip(found, wanted, strict=True))
