"""Features of what stands between two separators, kept from prompt to prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from ..structures import PromptTokens

Block = tuple[int, ...]
Encode = Callable[[Tensor, Tensor, Tensor], Tensor]
_Kept = tuple[dict[Block, int], Tensor | None]  # the first row of each block in the table


class BlockFeatures:
    """Keeps the features of every block that a language model with fixed weights has read.

    Tokens of a block look at each other alone and are numbered from 0, so that their features are
    the same in every prompt.

    Args:
        sentences: whether a block is read between [CLS] and [SEP], as a sentence of its own:
            encoders of sentences say nothing without these.
        most_tokens: that are kept; beyond it everything is dropped.
    """

    def __init__(self, *, sentences: bool = False, most_tokens: int = 200_000) -> None:
        self.sentences, self.most_tokens = sentences, most_tokens
        self.clear()

    def clear(self) -> None:
        """Drops what is kept, as other weights need it."""
        self._kept: _Kept = ({}, None)

    def __len__(self) -> int:
        return len(self._kept[0])

    def of(self, tokens: PromptTokens, encode: Encode) -> Tensor:
        """The features (B, T, E) of prompts, of which only unknown blocks are encoded.

        Args:
            tokens: of B prompts.
            encode: input ids (N, t), visible (N, t, t) and position ids (N, t) -> (N, t, E).
        """
        device = tokens.input_ids.device
        rows, table = self._kept  # looked up once: another thread may replace both
        if table is not None and (table.device != device or len(table) > self.most_tokens):
            rows, table = {}, None
        blocks = tokens.blocks()
        unknown = list(
            dict.fromkeys(block for row in blocks for _, block in row if block not in rows)
        )
        if unknown:
            first_row = tokens.input_ids[0][tokens.valid[0]].tolist()
            ends = ((first_row[0],), (first_row[-1],)) if self.sentences else ((), ())
            new = _encoded(unknown, ends, encode, device)
            starts = accumulate(map(len, unknown), initial=0 if table is None else len(table))
            rows = rows | dict(zip(unknown, starts, strict=False))
            table = new if table is None else torch.cat([table, new])
            self._kept = rows, table
        index = torch.zeros(tokens.input_ids.shape, dtype=torch.int64)
        for image, row in enumerate(blocks):
            for start, block in row:
                first = rows[block]
                index[image, start : start + len(block)] = torch.arange(first, first + len(block))
        return table[index.to(device)]


def _encoded(
    blocks: Sequence[Block], ends: tuple[Block, Block], encode: Encode, device: torch.device
) -> Tensor:
    """The features of blocks' tokens, one block after the other.

    Each is read with something before and behind it, whose features are left out.
    """
    before, behind = ends
    read = [(*before, *block, *behind) for block in blocks]
    longest = max(map(len, read))
    input_ids = torch.zeros(len(read), longest, dtype=torch.int64)
    kept = torch.zeros(len(read), longest, dtype=torch.bool)
    for row, (ids, block) in enumerate(zip(read, blocks, strict=True)):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        kept[row, len(before) : len(before) + len(block)] = True
    real = torch.arange(longest) < torch.tensor([[len(ids)] for ids in read])
    visible = real[:, :, None] & real[:, None] | torch.eye(longest, dtype=torch.bool)
    position_ids = torch.arange(longest).expand(len(read), -1)
    features = encode(*(x.to(device) for x in (input_ids, visible, position_ids)))
    return features[kept.to(device)]
