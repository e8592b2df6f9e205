"""Phrases token by token, as the official Grounding DINO names boxes.

They may merge words of several phrases and lack others; `Instances.phrases` of a predictor do not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from .prompt_tokenizer import Encoding, PromptTokenizer

_ENDS = ("[CLS]", "[SEP]", ".")


def token_phrase(
    tokenizer: PromptTokenizer,
    encoding: Encoding,
    tokens: Iterable[int],
    window: tuple[int, int] | None = None,
) -> str:
    """What some tokens of a caption say together, without dots.

    Args:
        tokenizer: that made the encoding.
        encoding: of the caption.
        tokens: their places.
        window: tokens up to the first place and from the second on are left out; None leaves out
            [CLS] alone.
    """
    first, last = window or (0, len(encoding.ids))
    kept = [encoding.ids[place] for place in tokens if first < place < last]
    return tokenizer.decode(kept).replace(".", "")


def between_separators(encoding: Encoding, token: int) -> tuple[int, int]:
    """The places of the separators around a token; one that is the first itself gives none."""
    ends = [place for place, text in enumerate(encoding.texts) if text in _ENDS]
    after = bisect_left(ends, token)
    return ends[after - 1], ends[after]
