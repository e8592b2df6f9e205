"""A small residual network that learns from scratch on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from detectron2.modeling import Backbone, ShapeSpec
from torch import Tensor, nn

_Norm = Callable[[int], nn.Module]


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (arXiv 1512.03385, figure 2)."""

    def __init__(self, fan_in: int, fan_out: int, stride: int, norm: _Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(fan_in, fan_out, 3, stride),
            norm(fan_out),
            nn.ReLU(inplace=True),
            _conv(fan_out, fan_out, 3, 1),
            norm(fan_out),
        )
        # pooling before the 1x1 convolution (ResNet-D): a strided one drops three of four cells,
        # and its backward pass corrupts memory in oneDNN with 8 channels (torch 2.14.1, CPU)
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
        if stride > 1 or fan_in != fan_out:
            shortcut += [_conv(fan_in, fan_out, 1, 1), norm(fan_out)]
        self.shortcut = nn.Sequential(*shortcut)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + self.shortcut(x))


class SmallResNet(Backbone):
    """A narrow stem and one residual block per entry, without a pooling layer.

    At 128 x 128 pixels the usual stem (64 channels, max-pooling) costs as much as all blocks
    together: timm's resnet10t with these widths takes 1.5 times (stem "deep") to 1.9 times
    (plain stem) as long for a training step on two CPU cores.

    Args:
        stem_channels: channels after the first convolution (stride 2).
        channels: of the blocks, from fine to coarse.
        strides: of the blocks.
        num_outputs: how many of the last blocks with a stride of their own are returned. A block
            of stride 1 refines the map before it.
        group_norm: GroupNorm (one group) instead of BatchNorm: slower, but the same for one
            image as for many, in one process as in several.
    """

    def __init__(
        self,
        *,
        stem_channels: int,
        channels: Sequence[int],
        strides: Sequence[int],
        num_outputs: int,
        group_norm: bool = False,
    ) -> None:
        super().__init__()
        norm = partial(nn.GroupNorm, 1) if group_norm else nn.BatchNorm2d
        self.stem = nn.Sequential(
            _conv(3, stem_channels, 3, 2), norm(stem_channels), nn.ReLU(inplace=True)
        )
        stages: list[list[nn.Module]] = []
        widths, reductions = [], []
        fan_in, reduction = stem_channels, 2
        for fan_out, stride in zip(channels, strides, strict=True):
            if stride > 1 or not stages:
                stages.append([])
                widths.append(fan_out)
                reductions.append(reduction := reduction * stride)
            stages[-1].append(_BasicBlock(fan_in, fan_out, stride, norm))
            widths[-1] = fan_in = fan_out
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        names = [f"stage{i}" for i in range(len(stages))]
        self._out_features = names[-num_outputs:]
        self._out_feature_channels = dict(zip(names, widths, strict=True))
        self._out_feature_strides = dict(zip(names, reductions, strict=True))
        self.to(memory_format=torch.channels_last)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every map."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name], stride=self._out_feature_strides[name]
            )
            for name in self._out_features
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised images -> {name: (B, C_l, H_l, W_l)}, strides ascending."""
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        maps = {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            maps[f"stage{index}"] = x
        return {name: maps[name] for name in self._out_features}


def _conv(fan_in: int, fan_out: int, kernel: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(fan_in, fan_out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
