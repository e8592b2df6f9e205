"""Texts as a language model reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class PromptTokens:
    """The tokens of a batch of prompts, padded at the end to the longest.

    Attributes:
        input_ids: (B, T) int64, numbers in the language model's vocabulary.
        position_ids: (B, T) int64, counted from 0 in every block.
        valid: (B, T) bool, False where a token is padding.
        visible: (B, T, T) bool, True where token i may look at token j: those of its block, which
            ends with a separator; specials and padding see themselves alone.
        phrases: (B, P, T) bool, the tokens of each phrase.
        vocab_ids: (B, P) int64, the thing that each phrase names, -1 where there are fewer.
        texts: (B) the token strings of each prompt, without padding.
    """

    input_ids: Tensor
    position_ids: Tensor
    valid: Tensor
    visible: Tensor
    phrases: Tensor
    vocab_ids: Tensor
    texts: tuple[tuple[str, ...], ...]

    def to(self, device: object) -> PromptTokens:
        """The same on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if name != "texts"}
        return replace(self, **moved)

    def blocks(self) -> list[list[tuple[int, tuple[int, ...]]]]:
        """(first token, its ids) of the blocks of each prompt, the separator at its end included.

        Tokens that see themselves alone are blocks of one.
        """
        rows = []
        starts = self.visible.int().argmax(dim=-1).tolist()
        for ids, own in zip(self.input_ids.tolist(), starts, strict=True):
            blocks: dict[int, list[int]] = {}
            for token, start in zip(ids, own, strict=True):
                blocks.setdefault(start, []).append(token)
            rows.append([(start, tuple(block)) for start, block in blocks.items()])
        return rows
