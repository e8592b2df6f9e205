"""EfficientViT's fused convolutions compute what timm's do, and stay out of the way elsewhere."""

import pytest
import torch
from timm.layers import GELUTanh
from timm.models.efficientvit_mit import ConvNormAct
from torch import nn

from cqdino_d2.backbone import TimmBackbone
from cqdino_d2.backbone.fused_convolution import FusedConvNormAct
from cqdino_d2.layers import accelerate_for_cpu
from cqdino_d2.layers.cpu.forms import FORMS

TINY = dict(widths=[8, 8, 16, 24, 32], depths=[1, 1, 1, 1, 1], head_dim=8)
SETTINGS = dict(name="efficientvit_l1", out_indices=[1, 2, 3], model_args=TINY)


def with_statistics(module):
    """No batch norm as it starts."""
    torch.manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias)
    return module.eval()


def counted(monkeypatch, x, module):
    """The result, and how often oneDNN was called directly."""
    calls, convolve = [], torch.ops.mkldnn._convolution_pointwise

    def count(*args):
        calls.append(args[7])
        return convolve(*args)

    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", count)
    return module(x), calls


@pytest.mark.parametrize("activation", [GELUTanh, nn.Hardswish, nn.ReLU, None, nn.SiLU])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, None])
@pytest.mark.parametrize(
    ("size", "settings"),
    [
        ((17, 12), dict(kernel_size=3, stride=2)),
        ((17, 12), dict(kernel_size=1, bias=True)),
        ((9, 30), dict(kernel_size=3, groups=4)),
        ((2, 3), dict(kernel_size=3)),  # fewer numbers than weights: the norm is not folded
    ],
)
@torch.no_grad()
def test_a_step_is_timms(monkeypatch, activation, norm, size, settings):
    plain = ConvNormAct(4, 16, norm_layer=norm, act_layer=activation, **settings)
    with_statistics(plain)
    x = torch.randn(2, 4, *size)
    expected = plain(x)
    accelerate_for_cpu(plain)
    assert type(plain) is FusedConvNormAct
    found, calls = counted(monkeypatch, x, plain)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == (activation is not nn.SiLU)


@torch.no_grad()
def test_a_backbone_is_timms(monkeypatch):
    backbone = with_statistics(TimmBackbone(**SETTINGS))
    x = torch.randn(2, 3, 75, 130)
    expected = backbone(x)
    accelerate_for_cpu(backbone)
    found, calls = counted(monkeypatch, x, backbone)
    steps = sum(isinstance(module, ConvNormAct) for module in backbone.modules())
    assert len(calls) == steps > 20
    for name, feature_map in expected.items():
        torch.testing.assert_close(found[name], feature_map, rtol=1e-4, atol=1e-4)


def test_it_stays_out_of_training_autocast_doubles_and_compilers(monkeypatch):
    assert FORMS[ConvNormAct] is FusedConvNormAct
    plain = with_statistics(ConvNormAct(4, 16, act_layer=GELUTanh))
    x = torch.randn(1, 4, 12, 12)
    expected = plain(x)
    accelerate_for_cpu(plain)
    with_gradient, calls = counted(monkeypatch, x.requires_grad_(), plain)
    with_gradient.sum().backward()
    assert not calls and plain.conv.weight.grad.any()
    with torch.no_grad():
        compiled = torch.compile(plain, backend="eager", fullgraph=True)(x)
        torch.testing.assert_close(compiled, expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert plain(x).dtype == torch.bfloat16
        assert plain.double()(x.double()).dtype == torch.float64
        plain.float().train()(x)
    assert not calls


def test_batch_norms_may_keep_their_statistics():
    fixed = TimmBackbone(**SETTINGS, fixed_statistics=True)
    before = {key: value.clone() for key, value in fixed.state_dict().items()}
    whole = nn.Sequential(fixed).train()
    maps = whole(torch.randn(2, 3, 64, 64))
    assert whole.training and fixed.body.training
    sum(x.square().mean() for x in maps.values()).backward()
    assert all(p.grad is not None for p in fixed.parameters())
    for key, value in fixed.state_dict().items():
        assert torch.equal(value, before[key]), key
    plain = TimmBackbone(**SETTINGS).train()
    plain(torch.randn(2, 3, 64, 64))
    assert any(b.any() for name, b in plain.named_buffers() if name.endswith("running_mean"))
