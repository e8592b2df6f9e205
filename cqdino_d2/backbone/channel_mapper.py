"""The neck: every map to C channels, and further levels by strided convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class ChannelMapper(nn.Module):
    """1x1 convolution and GroupNorm per map; extra levels start from the last backbone map."""

    def __init__(
        self, *, in_channels: Sequence[int], dim: int, num_levels: int, num_groups: int = 32
    ) -> None:
        super().__init__()
        if num_levels < len(in_channels):
            raise ValueError(
                f"{len(in_channels)} backbone maps need at least as many levels, got {num_levels}"
            )
        self.lateral = nn.ModuleList(
            _conv_norm(width, dim, num_groups, kernel=1) for width in in_channels
        )
        extra = num_levels - len(in_channels)
        self.extra = nn.ModuleList(
            _conv_norm(in_channels[-1] if index == 0 else dim, dim, num_groups, kernel=3, stride=2)
            for index in range(extra)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """[(B, C_l, H_l, W_l)] -> L maps (B, C, H_l, W_l), from fine to coarse."""
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        coarse = maps[-1]
        for downsample in self.extra:
            coarse = downsample(coarse)
            levels.append(coarse)
        return levels


def _conv_norm(fan_in: int, dim: int, groups: int, *, kernel: int, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(fan_in, dim, kernel, stride=stride, padding=kernel // 2)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(groups, dim))
