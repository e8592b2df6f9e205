"""Learnt vectors that belong to names: what a text-prompted detector can be tuned by alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..structures import SEPARATORS, PromptTokens, words_of


class _Encoding(Protocol):
    ids: tuple[int, ...]


class _Tokenizer(Protocol):
    def encode(self, text: str) -> _Encoding:
        """A text in tokens between [CLS] and [SEP]."""


class PromptVectors(nn.Module):
    """A vector for each of some names, added to the features of the name's tokens.

    A name is known by its tokens: it has its vector wherever it stands alone between two
    separators of a prompt, in any case, with or without phrases. Everything else stays as it is,
    a longer name that has it in it and a sentence that mentions it among it. All vectors start at
    zero.

    Args:
        names: as a dataset has them; underscores and separators are blanks. Names that read the
            same share a vector.
        tokenizer: reads the names; needs ``encode``.
        dim: C, width of the features.

    Attributes:
        readings: (N, R) int64, the tokens of each name, padded with -1. They are saved with the
            vectors.

    Raises:
        ValueError: no names, or one without words; in loading, weights of other names.
    """

    readings: Tensor

    def __init__(self, *, names: Sequence[str], tokenizer: _Tokenizer, dim: int) -> None:
        super().__init__()
        if not names:
            raise ValueError("prompt vectors need at least one name")
        readings: dict[tuple[int, ...], None] = {}
        for name in names:
            ids = tokenizer.encode(words_of(name)).ids[1:-1]
            if not ids:
                raise ValueError(f"a name with a prompt vector needs words, got {name!r}")
            readings[ids] = None
        ends = tokenizer.encode(" ".join(SEPARATORS)).ids[1:-1]
        self._row_of = {(*ids, end): row for row, ids in enumerate(readings) for end in ends}
        padded = nn.utils.rnn.pad_sequence(
            [torch.tensor(ids) for ids in readings], batch_first=True, padding_value=-1
        )
        self.register_buffer("readings", padded)
        self.vectors = nn.Parameter(torch.zeros(len(readings), dim))
        self.register_load_state_dict_pre_hook(_refuse_other_names)

    def forward(self, tokens: PromptTokens) -> Tensor:
        """(B, T, C) what is added to the features of the tokens, zero but for the names'."""
        owner = torch.full(tokens.input_ids.shape, -1)
        for image, blocks in enumerate(tokens.blocks()):
            for start, block in blocks:
                if (row := self._row_of.get(block)) is not None:
                    owner[image, start : start + len(block) - 1] = row
        owner = owner.to(self.vectors.device)
        return torch.where(owner[..., None] < 0, 0.0, self.vectors[owner.clamp(min=0)])


def _refuse_other_names(
    module: PromptVectors, state: Mapping[str, Tensor], prefix: str, *_: Any
) -> None:
    saved = state.get(f"{prefix}readings")
    if saved is not None and not torch.equal(saved.cpu(), module.readings.cpu()):
        raise ValueError(
            f"the weights' prompt vectors belong to {len(saved)} other names or another order of "
            f"them than the config's {len(module.readings)}"
        )
