"""The light encoder's parts: against plain loops, and an image of a batch against itself alone."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from cqdino_d2.transformer import (
    AttentionEncoderLayer,
    BiAttention,
    CrossScaleFusion,
    Encoder,
    SlotSelfAttentionLayer,
)
from tests.slots import make_slots, make_tokens

DIM = 16
PADDED, SIZES = (64, 96), [(40, 96), (64, 50)]  # neither square nor whole cells of the coarsest map
STRIDES = (4, 8, 16)


def with_effect(module):
    """No parameter at its starting value, so that every part has an effect."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def cells(size, stride):
    return tuple(math.ceil(side / stride) for side in size)


def together_and_alone():
    """Tokens of the batch, whose padding is full of noise, and of each image alone."""
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, DIM, *cells(PADDED, stride), generator=generator) for stride in STRIDES]
    alone = []
    for image, size in enumerate(SIZES):
        own = [
            x[image : image + 1, :, : cells(size, stride)[0], : cells(size, stride)[1]]
            for x, stride in zip(maps, STRIDES, strict=True)
        ]
        alone.append(make_tokens(own, [size], size))
    return make_tokens(maps, SIZES, PADDED), alone


def make_merge(**changes):
    settings = dict(dim=DIM, num_levels=3, hidden_dim=12, num_convolutions=2)
    return with_effect(CrossScaleFusion(**(settings | changes)))


def make_encoder():
    return with_effect(
        Encoder(
            image_layer=partial(AttentionEncoderLayer, dim=DIM, num_heads=2, hidden_dim=24),
            exchange=partial(BiAttention, dim=DIM, attention_dim=8, num_heads=2, dropout=0.0),
            slot_layer=partial(SlotSelfAttentionLayer, dim=DIM, num_heads=2, hidden_dim=24),
            num_levels=3,
            num_layers=2,
            first_level=2,
            merge=CrossScaleFusion(dim=DIM, num_levels=3, hidden_dim=12, num_convolutions=2),
        )
    )


# ---- one image, in loops


def convolved(x, weight, stride=1):
    """3x3 convolution of a list of rows of places (C,), zero beyond the border."""
    height, width = x.shape[:2]
    rows = []
    for row in range(0, height, stride):
        places = []
        for column in range(0, width, stride):
            total = torch.zeros(len(weight))
            for y in (-1, 0, 1):
                for z in (-1, 0, 1):
                    if 0 <= row + y < height and 0 <= column + z < width:
                        total = total + weight[:, :, y + 1, z + 1] @ x[row + y, column + z]
            places.append(total)
        rows.append(torch.stack(places))
    return torch.stack(rows)


def normed(x, norm):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    x = x * norm.weight + norm.bias
    return x / (1 + torch.exp(-x))


def point(x, part):
    return normed(x @ part[0].weight.T, part[1])


def layer(x, part, stride=1):
    return normed(convolved(x, part.convolution.weight, stride), part.norm)


def block(x, part):
    y = point(x, part.narrow)
    for convolution in part.convolutions:
        y = y + layer(y, convolution)
    return point(y + point(x, part.past), part.widen)


def plain_merge(merge, fine, middle, coarse):
    """Maps (H, W, C) of three levels, merged step by step."""

    def above(x, size):
        return torch.stack(
            [torch.stack([x[r // 2, c // 2] for c in range(size[1])]) for r in range(size[0])]
        )

    coarse = point(coarse, merge.laterals[1])
    middle = block(torch.cat([above(coarse, middle.shape), middle], -1), merge.top_down[1])
    middle = point(middle, merge.laterals[0])
    fine = block(torch.cat([above(middle, fine.shape), fine], -1), merge.top_down[0])
    lowered = layer(fine, merge.downsamples[0], stride=2)
    middle = block(torch.cat([lowered, middle], -1), merge.bottom_up[0])
    lowered = layer(middle, merge.downsamples[1], stride=2)
    coarse = block(torch.cat([lowered, coarse], -1), merge.bottom_up[1])
    return fine, middle, coarse


@torch.no_grad()
def test_the_merge_is_what_its_steps_give_in_loops():
    merge = make_merge().eval()
    _, alone = together_and_alone()
    for one in alone:
        maps = [x[0] for x in one.level_maps(one.features)]
        expected = torch.cat([x.flatten(0, 1) for x in plain_merge(merge, *maps)])
        torch.testing.assert_close(merge(one).features[0], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_attention_is_what_it_is_in_loops():
    module = with_effect(AttentionEncoderLayer(dim=8, num_levels=1, num_heads=2, hidden_dim=12))
    tokens = make_tokens([torch.randn(2, 8, 3, 5)], [(24, 40), (16, 24)], (24, 40))
    found = module.eval()(tokens, None)
    weight, bias = module.attention.in_proj_weight, module.attention.in_proj_bias
    for image in range(2):
        x, inside = tokens.features[image], ~tokens.padding_mask[image]
        assert inside.sum() == (15, 6)[image]
        placed = x + tokens.position[image]
        query, key = (placed @ weight[i : i + 8].T + bias[i : i + 8] for i in (0, 8))
        value = x @ weight[16:].T + bias[16:]
        rows = []
        for q in query:
            heads = []
            for part in (slice(0, 4), slice(4, 8)):
                logits = torch.stack([(q[part] * k[part]).sum() / 2 for k in key[inside]])
                heads.append((logits.exp() / logits.exp().sum()) @ value[inside][:, part])
            rows.append(torch.cat(heads))
        out = module.attention.out_proj
        attended = torch.stack(rows) @ out.weight.T + out.bias
        expected = module.feed_forward(F.layer_norm(x + attended, (8,), *module.norm.parameters()))
        torch.testing.assert_close(found[image], expected, rtol=1e-4, atol=1e-5)


# ---- two images of different sizes


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_the_merge_gives_an_image_in_a_batch_what_it_gives_it_alone(training):
    merge = make_merge().train(training)
    together, alone = together_and_alone()
    found = merge(together).features
    for image, one in enumerate(alone):
        inside = ~together.padding_mask[image]
        assert inside.sum() == one.features.shape[1] < len(inside)
        expected = merge(one).features[0]
        torch.testing.assert_close(found[image][inside], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_light_encoder_gives_an_image_in_a_batch_what_it_gives_it_alone():
    encoder, slots = make_encoder().eval(), make_slots(torch.randn(2, 5, DIM))
    together, alone = together_and_alone()
    found, fused = encoder(together, slots)
    for image, one in enumerate(alone):
        expected, own = encoder(one, make_slots(slots.features[image : image + 1]))
        inside = ~together.padding_mask[image]
        assert inside.sum() == one.features.shape[1]
        torch.testing.assert_close(
            found.features[image][inside], expected.features[0], rtol=0, atol=1e-4
        )
        torch.testing.assert_close(fused.features[image], own.features[0], rtol=0, atol=1e-4)


def test_every_parameter_of_the_light_encoder_is_trained():
    encoder = make_encoder()
    together, _ = together_and_alone()
    slots = make_slots(torch.randn(2, 5, DIM))
    tokens, fused = encoder(together, slots)
    (tokens.features.square().sum() + fused.features.square().sum()).backward()
    without = [
        name
        for name, parameter in encoder.named_parameters()
        if parameter.grad is None or not parameter.grad.any() or not parameter.grad.isfinite().all()
    ]
    assert not without


@torch.no_grad()
def test_fine_levels_learn_of_the_slots_through_the_merge():
    encoder = make_encoder().eval()
    together, _ = together_and_alone()
    first, second = (encoder(together, make_slots(torch.randn(2, 5, DIM)))[0] for _ in range(2))
    maps = (tokens.level_maps(tokens.features) for tokens in (first, second))
    for one, two in zip(*maps, strict=True):
        assert (one - two).abs().amax() > 1e-4


@torch.no_grad()
def test_one_level_is_merged_with_nothing():
    tokens = make_tokens([torch.randn(1, DIM, 3, 5)], [(24, 40)], (24, 40))
    merge = CrossScaleFusion(dim=DIM, num_levels=1)
    torch.testing.assert_close(merge(tokens).features, tokens.features)
