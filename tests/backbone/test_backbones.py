from functools import partial

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock

from cqdino_d2.backbone import (
    ChannelMapper,
    SimpleFeaturePyramid,
    SmallResNet,
    TimmBackbone,
)
from cqdino_d2.checkpoint import convert_released_weights
from tests.golden_files import golden_tensors
from tests.plain_model import pad_and_attend

TINY_SWIN = dict(
    name="swin_tiny_patch4_window7_224",
    out_indices=[1, 2, 3],
    output_norm=True,
    model_args=dict(
        img_size=64, embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2], window_size=4
    ),
)


def make_small_resnet(**changes):
    settings = dict(stem_channels=4, channels=[8, 12, 16, 16], strides=[2, 2, 2, 1], num_outputs=2)
    return SmallResNet(**(settings | changes))


@pytest.mark.parametrize("size", [(64, 64), (70, 91), (33, 128)])
@pytest.mark.parametrize(
    "make",
    [
        lambda: TimmBackbone(**TINY_SWIN),
        lambda: TimmBackbone(name="resnet10t", out_indices=[2, 3, 4]),
        make_small_resnet,
    ],
)
def test_maps_are_as_announced(make, size):
    backbone = make().eval()
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, *size))
    shapes = backbone.output_shape()
    assert list(maps) == list(shapes)
    for name, feature_map in maps.items():
        stride = shapes[name].stride
        expected = (2, shapes[name].channels, -(-size[0] // stride), -(-size[1] // stride))
        assert feature_map.shape == expected
    strides = [shape.stride for shape in shapes.values()]
    assert strides == sorted(strides)


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (3, 10), (9, 4)])
def test_swin_pads_to_whole_windows_before_the_shift(size):
    """A block on a map is timm's block on the map padded to whole windows."""
    torch.manual_seed(0)
    backbone = TimmBackbone(**TINY_SWIN).eval()
    blocks = [m for m in backbone.modules() if isinstance(m, SwinTransformerBlock)]
    assert {any(block.shift_size) for block in blocks} == {False, True}
    for block in blocks:
        torch.nn.init.normal_(block.attn.qkv.bias)
        torch.nn.init.normal_(block.attn.relative_position_bias_table)
        x = torch.randn(2, *size, block.dim, requires_grad=True)
        results = []
        for attend in (block._attn, partial(pad_and_attend, block)):
            block.zero_grad()
            y = attend(x)
            (gradient,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
            y.square().sum().backward(inputs=list(block.attn.parameters()))
            results.append([y, gradient, *(p.grad.clone() for p in block.attn.parameters())])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_padding_before_the_shift_is_not_what_timm_does():
    torch.manual_seed(0)
    backbone = TimmBackbone(**TINY_SWIN).eval()
    block = next(m for m in backbone.modules() if any(getattr(m, "shift_size", ())))
    x = torch.randn(1, 7, 7, block.dim)
    assert not torch.allclose(block._attn(x), SwinTransformerBlock._attn(block, x))


def test_a_shifted_block_is_one_graph_for_a_compiler():
    backbone = TimmBackbone(**TINY_SWIN).eval()
    block = next(m for m in backbone.modules() if any(getattr(m, "shift_size", ())))
    x = torch.randn(1, 7, 9, block.dim)
    with torch.no_grad():
        expected = block(x)
        found = torch.compile(block, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_model_is_named():
    with pytest.raises(ValueError, match="no_such_net"):
        TimmBackbone(name="no_such_net", out_indices=[1])


def test_a_frozen_backbone_does_not_train():
    """Neither its weights nor the statistics of its batch norms change, and nothing is dropped."""
    backbone = TimmBackbone(
        name="resnet10t", out_indices=[4], frozen=True, model_args={"drop_path_rate": 0.9}
    )
    assert not any(p.requires_grad for p in backbone.parameters())
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    whole = torch.nn.Sequential(backbone).train()
    assert whole.training and not any(module.training for module in backbone.modules())
    images = torch.randn(2, 3, 64, 64)
    first, second = whole(images)["p4"], whole(images)["p4"]
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[k]) for k, value in backbone.state_dict().items())
    assert TimmBackbone(name="resnet10t", out_indices=[4]).train().body.training


def test_group_norm_makes_small_resnet_independent_of_the_batch():
    torch.manual_seed(0)
    images = torch.randn(3, 3, 32, 32)
    with_groups = make_small_resnet(group_norm=True).train()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in with_groups.modules())
    together, alone = with_groups(images)["stage2"][:1], with_groups(images[:1])["stage2"]
    torch.testing.assert_close(together, alone)


def test_channel_mapper_makes_extra_levels_from_the_last_backbone_map():
    torch.manual_seed(0)
    neck = ChannelMapper(in_channels=[6, 10], dim=8, num_levels=4, num_groups=4)
    maps = [torch.randn(1, 6, 16, 12), torch.randn(1, 10, 8, 6)]
    levels = neck(maps)
    assert [tuple(x.shape) for x in levels] == [
        (1, 8, 16, 12),
        (1, 8, 8, 6),
        (1, 8, 4, 3),
        (1, 8, 2, 2),
    ]
    torch.testing.assert_close(levels[2], neck.extra[0](maps[1]))
    torch.testing.assert_close(levels[3], neck.extra[1](levels[2]))


def test_channel_mapper_refuses_too_few_levels():
    with pytest.raises(ValueError, match="at least as many levels, got 1"):
        ChannelMapper(in_channels=[6, 10], dim=8, num_levels=1)


def test_the_first_stage_agrees_with_the_recorded_numbers():
    """Patch embedding, a windowed block and the patch merging of the released backbone."""
    weights = convert_released_weights(golden_tensors("swin_stage0", "sd/")).weights
    recorded = golden_tensors("swin_stage0", "eval/")
    args = dict(img_size=384, embed_dim=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8])
    model_args = args | dict(window_size=4)
    backbone = TimmBackbone(**(TINY_SWIN | dict(model_args=model_args))).eval()
    left_over = backbone.load_state_dict(
        {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}, strict=False
    )
    assert not left_over.unexpected_keys
    picture = golden_tensors("swin_stage0")["in/image_bgr.0"].flip(-1).permute(2, 0, 1)[None]
    mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])[..., None, None]
    body = backbone.body
    with torch.no_grad():
        before = body.layers_0(body.patch_embed((picture - mean) / std))
        after = body.layers_1.downsample(before)
    close = dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(before.flatten(1, 2), recorded["swin_stage0_prenorm"], **close)
    torch.testing.assert_close(after.flatten(1, 2), recorded["swin_stage0_down"], **close)


def test_one_map_of_a_vit_becomes_a_pyramid():
    torch.manual_seed(0)
    args = dict(img_size=64, embed_dim=12, depth=2, num_heads=2, dynamic_img_size=True)
    backbone = TimmBackbone(
        name="vit_tiny_patch16_224", out_indices=[1], output_norm=True, model_args=args
    ).eval()
    neck = SimpleFeaturePyramid(in_channels=12, dim=8, num_levels=4)
    with torch.no_grad():
        maps = list(backbone(torch.randn(2, 3, 70, 101)).values())
        levels = neck(maps)
    assert [tuple(x.shape) for x in maps] == [(2, 12, 5, 7)]
    sizes = [(10, 14), (5, 7), (3, 4), (2, 2)]
    assert [tuple(x.shape) for x in levels] == [(2, 8, *size) for size in sizes]
    pooled = torch.nn.functional.max_pool2d(maps[0], 2, ceil_mode=True)
    torch.testing.assert_close(levels[2], neck.levels[2](pooled))
    for level in levels:  # each place is normalised over its channels
        torch.testing.assert_close(level.mean(dim=1), torch.zeros(2, *level.shape[2:]))
    with pytest.raises(ValueError, match="at least 2, got 1"):
        SimpleFeaturePyramid(in_channels=12, dim=8, num_levels=1)
