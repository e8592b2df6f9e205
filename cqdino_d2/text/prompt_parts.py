"""Prompts put together, and cut into parts that a model can read."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from functools import reduce
from itertools import pairwise

from ..structures import SEPARATORS, TextPrompt

_Interval = tuple[int, int]


def joined(first: TextPrompt, second: TextPrompt) -> TextPrompt:
    """One caption after the other, with the phrases of both."""
    shift = len(first.caption) + 1
    moved = tuple(
        tuple((begin + shift, end + shift) for begin, end in spans) for spans in second.spans
    )
    vocab_ids = first.phrase_ids + second.phrase_ids
    return TextPrompt(f"{first.caption} {second.caption}", first.spans + moved, vocab_ids)


def split_prompt(
    prompt: TextPrompt,
    token_starts: Sequence[int],
    max_tokens: int,
    everywhere: Collection[int] = (),
) -> tuple[TextPrompt, ...]:
    """A long prompt in as few parts as keep its order and a number of tokens.

    It is cut behind separators alone, and never between phrases that name the same thing.

    Args:
        prompt: with phrases.
        token_starts: the first character of each token, ascending.
        max_tokens: of a part.
        everywhere: things whose phrases stand in every part.

    Raises:
        ValueError: what cannot be cut has too many tokens.
    """
    constant = frozenset(everywhere)
    pieces, always, budget = [], [], max_tokens
    for piece, (begin, end) in _pieces(prompt):
        num_tokens = bisect_left(token_starts, end) - bisect_left(token_starts, begin)
        if constant.issuperset(piece.phrase_ids):
            always.append(piece)
            budget -= num_tokens
        else:
            pieces.append((piece, num_tokens))
    parts: list[list[TextPrompt]] = [[]]
    used = 0
    for piece, num_tokens in pieces:
        if num_tokens > budget:
            also = " next to the phrases of every prompt" if always else ""
            raise ValueError(
                f"{shortened(piece.caption)!r} has {num_tokens} tokens, a prompt holds "
                f"{max(budget, 0)}{also}"
            )
        if used + num_tokens > budget:
            parts.append([])
            used = 0
        parts[-1].append(piece)
        used += num_tokens
    return tuple(reduce(joined, [*part, *always]) for part in parts)


def shortened(text: str, length: int = 60) -> str:
    """A text of at most ``length`` characters, for messages."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _pieces(prompt: TextPrompt) -> Iterator[tuple[TextPrompt, _Interval]]:
    """What stands between neighbouring cuts, with the characters that it had."""
    phrases = sorted(zip(prompt.spans, prompt.phrase_ids, strict=True))
    begins = [spans[0][0] for spans, _ in phrases]
    for begin, end in pairwise(_cuts(prompt)):
        own = phrases[bisect_left(begins, begin) : bisect_left(begins, end)]
        text = prompt.caption[begin:end]
        shift = begin + len(text) - len(text.lstrip())
        text = text.strip()
        piece = TextPrompt(
            text if text.endswith(SEPARATORS) else f"{text}.",
            tuple(tuple((b - shift, e - shift) for b, e in spans) for spans, _ in own),
            tuple(vocab_id for _, vocab_id in own),
        )
        yield piece, (begin, end)


def _cuts(prompt: TextPrompt) -> list[int]:
    """The characters where the caption may be cut, its first and last among them."""
    ends = [place + 1 for place, char in enumerate(prompt.caption) if char in SEPARATORS]
    ends = [0, *ends, len(prompt.caption)]
    intervals: dict[int, _Interval] = {}
    for vocab_id, spans in zip(prompt.phrase_ids, prompt.spans, strict=True):
        begin, end = min(spans)[0], max(end for _, end in spans)
        first, last = intervals.get(vocab_id, (begin, end))
        intervals[vocab_id] = min(first, begin), max(last, end)
    cuts, reached = [0], 0
    for begin, end in sorted(intervals.values()):
        if 0 < reached <= ends[bisect_right(ends, begin) - 1]:
            cuts.append(ends[bisect_left(ends, reached)])
        reached = max(reached, end)
    return [*cuts, ends[bisect_left(ends, reached)]]
