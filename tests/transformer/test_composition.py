"""The parts that an encoder and a decoder take, each by itself."""

from functools import partial

import pytest
import torch
from torch import nn

from cqdino_d2.structures import ClassSlots, Proposals
from cqdino_d2.transformer import BiAttention, Decoder, DeformableEncoderLayer, Encoder

from .test_heads import categories, tokens


class AddOne(nn.Module):
    """A slot layer or a merge that can be seen in the result."""

    def forward(self, given):
        return given.with_features(given.features + 1)


def make(**parts):
    layer = partial(DeformableEncoderLayer, dim=8, num_heads=2, hidden_dim=12)
    return Encoder(image_layer=layer, num_levels=1, **parts)


def test_every_layer_has_parts_of_its_own():
    encoder = make(num_layers=3, exchange=partial(BiAttention, dim=8, attention_dim=16))
    for layers in (encoder.image_layers, encoder.fusion_layers):
        assert len({p.data_ptr() for p in layers.parameters()}) == len(list(layers.parameters()))
        first, second = (dict(layer.named_parameters()) for layer in layers[:2])
        assert not all(torch.equal(first[name], second[name]) for name in first)


def test_slots_see_each_other_once_per_layer():
    encoder = make(num_layers=3, slot_layer=AddOne)
    image, slots = tokens(), categories()
    _, encoded = encoder(image, slots)
    torch.testing.assert_close(encoded.features, slots.features + 3)


def test_levels_are_merged_after_the_layers():
    torch.manual_seed(0)
    plain = make(num_layers=2)
    merged = make(num_layers=2, merge=AddOne())
    merged.load_state_dict(plain.state_dict())
    image, slots = tokens(), categories()
    torch.testing.assert_close(
        merged(image, slots)[0].features, plain(image, slots)[0].features + 1
    )


def test_a_first_level_must_leave_one():
    with pytest.raises(ValueError, match=r"first_level must be in 0\.\.0, got 1"):
        make(first_level=1)


def test_further_heads_see_every_layers_queries():
    torch.manual_seed(0)
    heads = {"semantics": partial(nn.Linear, 8, 5), "width": partial(nn.Linear, 8, 1)}
    settings = dict(dim=8, num_levels=1, num_layers=2, num_heads=2, hidden_dim=12)
    decoder = Decoder(**settings, extra_heads=heads)
    image, slots = tokens(), categories()
    proposals = Proposals(
        torch.randn(2, 3, 8), torch.rand(2, 3, 4), torch.zeros(2, 3, 7), torch.zeros(2, 3)
    )
    seen = []
    decoder.norm.register_forward_hook(lambda _, __, out: seen.append(out))
    output = decoder(image, slots, proposals)
    assert output.extras["semantics"].shape == (2, 2, 3, 5)
    assert output.extras["width"].shape == (2, 2, 3, 1)
    for depth, queries in enumerate(seen):
        torch.testing.assert_close(
            output.extras["semantics"][depth], decoder.extra_heads["semantics"][depth](queries)
        )
    first, rest = output.split(1)
    assert first.extras["width"].shape == (2, 2, 1, 1)
    assert rest.layers("_dn")[0].name == "_dn_0" and rest.layers("_dn")[1].name == "_dn"
    torch.testing.assert_close(rest.layers()[1].extras["width"], output.extras["width"][1, :, 1:])


@pytest.mark.parametrize("num_slots, folds", [(5, True), (60, False)])
def test_folded_or_not_fusion_is_the_same(num_slots, folds):
    torch.manual_seed(0)
    module = BiAttention(dim=8, attention_dim=16, num_heads=2, initial_scale=0.5).eval()
    assert module.folds(num_slots) is folds
    image, slots = tokens(), categories(num_slots)
    valid = torch.ones(2, num_slots, dtype=torch.bool)
    valid[1, 3:] = False
    padding = torch.zeros(2, 16, dtype=torch.bool)
    padding[0, 11:] = True
    arguments = (image.features, slots.features, padding, valid)
    expected = module.fuse(*arguments)
    module.folds = lambda _: not folds
    for found, wanted in zip(module.fuse(*arguments), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_fusion_takes_masks_from_tokens_and_slots():
    module = BiAttention(dim=8, attention_dim=16, num_heads=2, initial_scale=0.5).eval()
    image, full = tokens(), categories(4)
    valid = torch.tensor([[True] * 4, [True, True, False, True]])
    slots = ClassSlots(full.features, full.vocab_ids, valid)
    encoded, classes = module(image, slots)
    expected = module.fuse(image.features, slots.features, image.padding_mask, valid)
    torch.testing.assert_close(encoded.features, expected[0])
    torch.testing.assert_close(classes.features, expected[1])
