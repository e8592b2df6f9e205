"""Any timm model with feature maps as a Detectron2 backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from detectron2.modeling import Backbone, ShapeSpec
from timm.layers import PatchEmbed, freeze_batch_norm_2d
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from . import fused_convolution  # noqa: F401  a form of timm's module for `accelerate_for_cpu`
from .padding import PaddedPatchEmbed, PaddedPatchMerging
from .pretrained import pretrained_weights
from .windowed_block import WindowedBlock

_FORMS = {
    PatchEmbed: PaddedPatchEmbed,
    PatchMerging: PaddedPatchMerging,
    SwinTransformerBlock: WindowedBlock,
}


class TimmBackbone(Backbone):
    """Feature maps of a timm model, from fine to coarse.

    Args:
        name: a timm model with ``features_only`` support, e.g. "swin_base_patch4_window12_384".
        out_indices: which of timm's feature maps are returned, ascending.
        pretrained: True takes timm's published weights (needs a network or timm's cache),
            'packaged' those of a Python package; any other text names a weight file: see
            `pretrained_weights`.
        output_norm: a LayerNorm over the channels of each returned map.
        frozen: no part of the backbone is trained: it stays in evaluation mode, so that batch
            norms keep their statistics and nothing is dropped.
        frozen_norms: batch norms keep their statistics and factors, whatever else is trained.
        fixed_statistics: batch norms keep the statistics that they were pre-trained with, as a
            detector's batches are small; their weights are trained.
        model_args: further arguments of ``timm.create_model``.

    Raises:
        ValueError: timm does not know the model or cannot make feature maps of it, or the weights
            are those of another model.
        FileNotFoundError: there is no such weight file.
    """

    def __init__(
        self,
        *,
        name: str,
        out_indices: Sequence[int],
        pretrained: bool | str = False,
        output_norm: bool = False,
        frozen: bool = False,
        frozen_norms: bool = False,
        fixed_statistics: bool = False,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        args = {key: _plain(value) for key, value in (model_args or {}).items()}
        if name.startswith("swin_"):
            args = {"strict_img_size": False, "always_partition": True} | args
        if isinstance(pretrained, str):
            weights = pretrained_weights(name, pretrained, args)
            args = args | {"pretrained_cfg_overlay": {"state_dict": weights, "custom_load": False}}
        try:
            self.body = timm.create_model(
                name,
                pretrained=bool(pretrained),
                features_only=True,
                out_indices=tuple(out_indices),
                **args,
            )
        except RuntimeError as error:
            raise ValueError(f"timm cannot make the backbone {name!r}: {error}") from error
        if frozen_norms:
            self.body = freeze_batch_norm_2d(self.body)
        self.channels_last_maps = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
        self._follow_detector_padding()
        channels, strides = self.body.feature_info.channels(), self.body.feature_info.reduction()
        self._out_features = [f"p{index}" for index in out_indices]
        self._out_feature_channels = dict(zip(self._out_features, channels, strict=True))
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in channels if output_norm)
        self.frozen, self.fixed_statistics = frozen, fixed_statistics
        if frozen:
            self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> TimmBackbone:
        """Sets the mode of what is neither frozen nor a batch norm with fixed statistics."""
        super().train(mode and not self.frozen)
        if self.fixed_statistics:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _follow_detector_padding(self) -> None:
        """Sizes that patches or windows do not divide are padded at the bottom and right."""
        for module in self.body.modules():
            module.__class__ = _FORMS.get(type(module), type(module))
            if hasattr(module, "dynamic_img_pad"):
                module.dynamic_img_pad = True

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
        maps = self.body(images)
        if not self.channels_last_maps:
            maps = [x.permute(0, 2, 3, 1) for x in maps] if self.norms else maps
        if self.norms:
            maps = [norm(x) for norm, x in zip(self.norms, maps, strict=True)]
        if self.norms or self.channels_last_maps:
            maps = [x.permute(0, 3, 1, 2) for x in maps]
        return {
            name: x.contiguous(memory_format=_layout(x))
            for name, x in zip(self._out_features, maps, strict=True)
        }


def _plain(value: Any) -> Any:
    """timm wants lists and tuples where a config has sequences of its own."""
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
    return [_plain(item) for item in value] if is_sequence else value


def _layout(x: Tensor) -> torch.memory_format:
    """The memory layout a map already has, contiguous where it has neither."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format
