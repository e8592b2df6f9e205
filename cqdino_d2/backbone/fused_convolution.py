"""EfficientViT's convolutions, norms and activations in one step."""

from __future__ import annotations

import torch
from timm.layers import GELUTanh
from timm.models.efficientvit_mit import ConvNormAct
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..layers import form_of, takes_onednn

# what oneDNN computes along with a convolution: its name, numbers and form
_FUSED = {
    nn.Identity: ("none", [], ""),
    nn.ReLU: ("relu", [], ""),
    nn.Hardswish: ("hardswish", [], ""),
    GELUTanh: ("gelu", [], "tanh"),
}


@form_of(ConvNormAct)
class FusedConvNormAct(ConvNormAct):
    """timm's `ConvNormAct` in inference on a CPU: by oneDNN, channels last.

    The norm becomes part of the weights where that is less work than the norm of the map.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        conv, norm, fused = self.conv, self.norm, _FUSED.get(type(self.act))
        if self.training or fused is None or torch.is_grad_enabled():
            return super().forward(x)
        if not takes_onednn(x, conv.weight) or not isinstance(conv.padding[0], int):
            return super().forward(x)
        x = x.contiguous(memory_format=torch.channels_last)
        geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
        convolve = torch.ops.mkldnn._convolution_pointwise
        if type(norm) is nn.Identity:
            return convolve(x, conv.weight, conv.bias, *geometry, *fused)
        if type(norm) is not nn.BatchNorm2d or conv.weight.numel() > x.numel():
            plain = _FUSED[nn.Identity]
            return self.act(norm(convolve(x, conv.weight, conv.bias, *geometry, *plain)))
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weights = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        return convolve(x, *weights, *geometry, *fused)
