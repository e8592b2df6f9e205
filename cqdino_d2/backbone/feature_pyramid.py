"""The neck of backbones that give one map: finer and coarser levels made from it."""

from __future__ import annotations

from collections.abc import Sequence

from timm.layers import LayerNorm2d
from torch import Tensor, nn


class SimpleFeaturePyramid(nn.Module):
    """Levels of strides 8, 16, 32, ... from a plain ViT's last map of stride 16 (arXiv 2203.16527).

    Args:
        in_channels: of the map.
        dim: C of the levels.
        num_levels: L; the first is twice as fine as the map, each further one half as fine as the
            one before it, rounded up.

    Raises:
        ValueError: fewer than two levels.
    """

    def __init__(self, *, in_channels: int, dim: int, num_levels: int) -> None:
        super().__init__()
        if num_levels < 2:
            raise ValueError(f"num_levels must be at least 2, got {num_levels}")
        self.finer = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2)
        self.coarser = nn.MaxPool2d(2, ceil_mode=True)
        widths = [in_channels // 2] + [in_channels] * (num_levels - 1)
        self.levels = nn.ModuleList(_level(width, dim) for width in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[(B, C', H, W)] -> L maps (B, C, H_l, W_l), from fine to coarse."""
        (coarse,) = maps
        scaled = [self.finer(coarse), coarse]
        while len(scaled) < len(self.levels):
            scaled.append(self.coarser(scaled[-1]))
        return [level(x) for level, x in zip(self.levels, scaled, strict=True)]


def _level(fan_in: int, dim: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(fan_in, dim, 1, bias=False),
        LayerNorm2d(dim),
        nn.Conv2d(dim, dim, 3, padding=1, bias=False),
        LayerNorm2d(dim),
    )
