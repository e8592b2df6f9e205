"""Parts of timm's Swin on maps of any size, with sizes that stay simple where they are symbols.

timm pads by remainders. Traced with dynamic sizes these pile up from stage to stage until a tracer
no longer comes to an end; here every map is first padded to a multiple, by quotients alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.swin_transformer import PatchMerging
from torch import Tensor


def quotient_up(length: int, side: int) -> int:
    """How many times ``side`` covers ``length``."""
    return (length + side - 1) // side


def missing(size: tuple[int, int], sides: tuple[int, int]) -> tuple[int, int]:
    """What (height, width) lack to be multiples of sides."""
    height, width = (
        quotient_up(length, side) * side - length for length, side in zip(size, sides, strict=True)
    )
    return height, width


def padded(x: Tensor, amounts: tuple[int, ...]) -> Tensor:
    """`F.pad`, which copies even where nothing is missing."""
    complete = not torch.compiler.is_compiling() and not any(amounts)  # sizes may be symbols
    return x if complete else F.pad(x, amounts)


class PaddedPatchEmbed(PatchEmbed):
    """timm's patch embedding of an image that is padded at the bottom and right before."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> as timm's class."""
        height, width = missing(x.shape[-2:], self.patch_size)
        return super().forward(padded(x, (0, width, 0, height)))


class PaddedPatchMerging(PatchMerging):
    """timm's merging of 2 x 2 patches of a map that is padded at the bottom and right before."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, C')."""
        height, width = missing(x.shape[1:3], (2, 2))
        return super().forward(padded(x, (0, 0, 0, width, 0, height)))
