"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .forms import form_of

_LEVELS = 1 << 16  # a random number has 16 bits


@form_of(nn.Dropout)
class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, by `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        return dropout(x, self.p) if self.training else x


def dropout(x: Tensor, p: float) -> Tensor:
    """`torch.nn.functional.dropout` in training; other random numbers on a CPU.

    There torch draws one number after the other, which takes longer than the attention whose
    weights they drop; four decisions are made here of each draw of 64 bits.

    Args:
        x: any shape.
        p: share that becomes zero, on a CPU in steps of 1 / 65536; the others are scaled up so that
            the expected value stays.
    """
    dropped = round(p * _LEVELS)
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not 0 < dropped < _LEVELS:
        return nn.functional.dropout(x, p)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    numbers = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = (numbers >= dropped - _LEVELS // 2).to(x.dtype)  # products with bools are slow
    return x * kept.mul_(_LEVELS / (_LEVELS - dropped))
