"""Cross-scale fusion: the levels of an image exchange features through small convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..structures import ImageTokens


class CrossScaleFusion(nn.Module):
    """From the coarsest level down to the finest, and up again.

    The cross-scale half of RT-DETR's hybrid encoder (arXiv 2304.08069, section 4.2), which
    Grounding DINO 1.5 Edge names for its own (arXiv 2405.10300). Every level has half the height
    and width of the one before it, rounded up. Padding is zero for every convolution, as what lies
    beyond the border of an image alone, and norms see one place at a time: an image gets what it
    gets alone, in training too.

    Args:
        dim: C of the tokens.
        num_levels: L.
        hidden_dim: width of the 3x3 convolutions in a block.
        num_convolutions: of a block.
    """

    def __init__(
        self, *, dim: int, num_levels: int, hidden_dim: int = 128, num_convolutions: int = 3
    ) -> None:
        super().__init__()
        block = (dim, hidden_dim, num_convolutions)
        steps = range(num_levels - 1)
        self.laterals = nn.ModuleList(_pointwise(dim, dim) for _ in steps)
        self.top_down = nn.ModuleList(_FusionBlock(*block) for _ in steps)
        self.downsamples = nn.ModuleList(_Convolution(dim, dim, stride=2) for _ in steps)
        self.bottom_up = nn.ModuleList(_FusionBlock(*block) for _ in steps)

    def forward(self, tokens: ImageTokens) -> ImageTokens:
        """The tokens with new features of the same shape."""
        maps = tokens.level_maps(tokens.features)
        padding = tokens.level_maps(tokens.padding_mask[..., None])
        for fine in reversed(range(len(maps) - 1)):
            maps[fine + 1] = self.laterals[fine](maps[fine + 1])
            raised = _doubled(maps[fine + 1], tokens.level_sizes[fine])
            both = torch.cat([raised, maps[fine]], dim=-1)
            maps[fine] = self.top_down[fine](both, padding[fine])
        for fine in range(len(maps) - 1):
            lowered = self.downsamples[fine](maps[fine], padding[fine])
            both = torch.cat([lowered, maps[fine + 1]], dim=-1)
            maps[fine + 1] = self.bottom_up[fine](both, padding[fine + 1])
        return tokens.with_features(torch.cat([x.flatten(1, 2) for x in maps], dim=1))


class _FusionBlock(nn.Module):
    """Two levels side by side become one, through 3x3 convolutions and past them."""

    def __init__(self, dim: int, hidden_dim: int, num_convolutions: int) -> None:
        super().__init__()
        self.narrow = _pointwise(2 * dim, hidden_dim)
        self.convolutions = nn.ModuleList(
            _Convolution(hidden_dim, hidden_dim) for _ in range(num_convolutions)
        )
        self.past = _pointwise(2 * dim, hidden_dim)
        self.widen = _pointwise(hidden_dim, dim)

    def forward(self, both: Tensor, padding: Tensor) -> Tensor:
        """(B, H, W, 2 C), (B, H, W, 1) -> (B, H, W, C)."""
        x = self.narrow(both)
        for convolution in self.convolutions:
            x = x + convolution(x, padding)
        return self.widen(x + self.past(both))


class _Convolution(nn.Module):
    """3x3 convolution, norm and SiLU of a map whose padding counts as zero."""

    def __init__(self, fan_in: int, fan_out: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
        self.norm, self.activation = nn.LayerNorm(fan_out), nn.SiLU(inplace=True)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """(B, H, W, C), (B, H, W, 1) bool -> (B, H / stride, W / stride, C'), rounded up."""
        x = x.masked_fill(padding, 0).permute(0, 3, 1, 2)
        return self.activation(self.norm(self.convolution(x).permute(0, 2, 3, 1)))


def _pointwise(fan_in: int, fan_out: int) -> nn.Module:
    """A 1x1 convolution with norm and SiLU, for the last dimension."""
    linear = nn.Linear(fan_in, fan_out, bias=False)
    return nn.Sequential(linear, nn.LayerNorm(fan_out), nn.SiLU(inplace=True))


def _doubled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W, C) -> (B, *size, C): place y, x has what stood at y // 2, x // 2.

    Unlike interpolation to the size this does not depend on how far a batch is padded, and unlike
    doubling and cutting off it is traced for all sizes.
    """
    rows, columns = (torch.arange(side, device=x.device) // 2 for side in size)
    return x.index_select(1, rows).index_select(2, columns)
