"""Two images of different sizes in one batch: numbers by hand, and each image alone.

Exact are all stages that are given the same features, whatever lies in the padding: masked tokens
are never looked at, and sampling points are placed in units of the image. One thing is not, as in
the released code: the decoder encodes the reference boxes relative to the padded map, so the tests
of the decoder here switch that encoding off; `test_golden.py` holds its numbers.
"""

import math

import pytest
import torch

from cqdino_d2.transformer import Decoder, QuerySelection
from cqdino_d2.transformer.encoder import encoder_references
from cqdino_d2.transformer.query_selection import token_anchors
from tests.slots import make_encoder, make_proposals, make_slots, make_tokens

SIZES = [(48, 80), (64, 40)]
PADDED = (64, 80)
DIM, NUM_SLOTS = 16, 5


def random_maps(strides=(4, 8)):
    generator = torch.Generator().manual_seed(0)
    size = [(2, DIM, PADDED[0] // stride, PADDED[1] // stride) for stride in strides]
    return [torch.randn(shape, generator=generator) for shape in size]


def together_and_alone():
    """The tokens of the batch, whose padding is full of noise, and those of each image alone."""
    maps = random_maps()
    together, alone = make_tokens(maps, SIZES, PADDED), []
    for image, (height, width) in enumerate(SIZES):
        own = [
            level[image : image + 1, :, : height // stride, : width // stride]
            for level, stride in zip(maps, (4, 8), strict=True)
        ]
        alone.append(make_tokens(own, [(height, width)], (height, width)))
    return together, alone


def slots():
    """Other slots for each image, one of them empty."""
    generator = torch.Generator().manual_seed(1)
    valid = torch.ones(2, NUM_SLOTS, dtype=torch.bool)
    valid[0, 3] = False
    return make_slots(torch.randn(2, NUM_SLOTS, DIM, generator=generator), valid=valid)


def slots_of(image, given):
    features, valid = given.features[image : image + 1], given.valid[image : image + 1]
    return make_slots(features, valid=valid)


def with_effect(module, seed=0):
    """No parameter at its starting value, so that every part has an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def test_masks_and_valid_ratios_by_hand():
    """Level 0 is 8 x 10 tokens, level 1 is 4 x 5; 40 pixels reach into the third column of 16."""
    tokens = make_tokens(random_maps(strides=(8, 16)), SIZES, PADDED)
    expected = [[[1.0, 6 / 8], [1.0, 3 / 4]], [[5 / 10, 1.0], [3 / 5, 1.0]]]
    torch.testing.assert_close(tokens.valid_ratios, torch.tensor(expected))
    padding = tokens.padding_mask[:, :80].view(2, 8, 10)
    assert not padding[0, :6].any() and padding[0, 6:].all()
    assert not padding[1, :, :5].any() and padding[1, :, 5:].all()
    coarse = tokens.padding_mask[:, 80:].view(2, 4, 5)
    assert not coarse[0, :3].any() and coarse[0, 3:].all()
    assert not coarse[1, :, :3].any() and coarse[1, :, 3:].all()


def test_positions_by_hand():
    """Row 2, column 3 of 6 x 10 and of 8 x 5 tokens; y comes first, each in sine and cosine."""
    tokens = make_tokens(random_maps(strides=(8, 16)), SIZES, PADDED)
    torch.manual_seed(0)
    embedding = torch.randn(2, DIM)[0]
    for image, (rows, columns) in enumerate([(6, 10), (8, 5)]):
        expected = []
        for share in (3 / rows, 4 / columns):
            for frequency in (20 ** (-2 * i / 8) for i in range(4)):
                angle = 2 * math.pi * share * frequency
                expected += [math.sin(angle), math.cos(angle)]
        found = tokens.position[image, 2 * 10 + 3] - embedding
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_anchors_and_references_by_hand():
    tokens = make_tokens(random_maps(strides=(8, 16)), SIZES, PADDED)
    anchors = token_anchors(tokens)[0].sigmoid()
    torch.testing.assert_close(anchors[0, 23], torch.tensor([3.5 / 10, 2.5 / 6, 0.05, 0.05]))
    torch.testing.assert_close(anchors[1, 23], torch.tensor([3.5 / 5, 2.5 / 8, 0.05, 0.05]))
    references = encoder_references(tokens)
    torch.testing.assert_close(references[0, 23, 0], torch.tensor([3.5 / 10, 2.5 / 8]))
    # on the other level the point lies where that level's valid part has it
    torch.testing.assert_close(references[1, 23, 1], torch.tensor([3.5 / 5 * 3 / 5, 2.5 / 8]))


def test_tokens_are_those_of_the_image_alone():
    together, alone = together_and_alone()
    for image, one in enumerate(alone):
        inside = ~together.padding_mask[image]
        assert inside.sum() == one.features.shape[1] and not one.padding_mask.any()
        torch.testing.assert_close(together.features[image][inside], one.features[0])
        torch.testing.assert_close(
            together.position[image][inside], one.position[0], rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_the_encoder_gives_what_it_gives_for_the_image_alone():
    encoder = with_effect(make_encoder(DIM))
    together, alone = together_and_alone()
    encoded, fused = encoder(together, slots())
    for image, one in enumerate(alone):
        expected, expected_slots = encoder(one, slots_of(image, slots()))
        inside, valid = ~together.padding_mask[image], slots().valid[image]
        assert not torch.allclose(expected.features, one.features, atol=0.1)
        torch.testing.assert_close(
            encoded.features[image][inside], expected.features[0], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            fused.features[image][valid], expected_slots.features[0, valid], rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_the_query_selection_finds_the_same_boxes_as_for_the_image_alone():
    selection = with_effect(QuerySelection(dim=DIM, num_queries=9))
    together, alone = together_and_alone()
    found = selection(together, slots())
    for image, one in enumerate(alone):
        expected = selection(one, slots_of(image, slots()))
        assert (expected.boxes_cxcywh_norm < 1).all(), "no unusable token among them"
        torch.testing.assert_close(found.logits[image], expected.logits[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            found.boxes_cxcywh_norm[image], expected.boxes_cxcywh_norm[0], rtol=1e-4, atol=1e-5
        )
        inside = (~together.padding_mask[image]).nonzero()[:, 0]
        assert torch.equal(found.token_ids[image], inside[expected.token_ids[0]])


def make_decoder(num_layers=3):
    decoder = Decoder(dim=DIM, num_levels=2, num_layers=num_layers, num_heads=2, hidden_dim=24)
    return with_effect(decoder)


def proposals(num_queries=6):
    generator = torch.Generator().manual_seed(2)
    centre = 0.2 + 0.6 * torch.rand(2, num_queries, 2, generator=generator)
    size = torch.rand(2, num_queries, 2, generator=generator) * torch.tensor([0.6, 0.2]) + 0.05
    content = torch.randn(2, num_queries, DIM, generator=generator)
    return make_proposals(content, torch.cat([centre, size], dim=-1), None)


@torch.no_grad()
def test_the_decoder_gives_what_it_gives_for_the_image_alone():
    decoder, given = make_decoder(), proposals()
    decoder.position_mlp[-1].weight.zero_()  # see the top of this file
    together, alone = together_and_alone()
    output = decoder(together, slots(), given)
    for image, one in enumerate(alone):
        own = make_proposals(
            given.content[image : image + 1], given.boxes_cxcywh_norm[image : image + 1], None
        )
        expected = decoder(one, slots_of(image, slots()), own)
        torch.testing.assert_close(
            output.boxes_cxcywh_norm[:, image],
            expected.boxes_cxcywh_norm[:, 0],
            rtol=1e-4,
            atol=1e-5,
        )
        torch.testing.assert_close(
            output.logits[:, image], expected.logits[:, 0], rtol=1e-4, atol=1e-4
        )


@torch.no_grad()
def test_the_decoder_encodes_boxes_relative_to_the_finest_padded_map():
    """In the order (y, x, w, h) and multiplied by the valid share of each axis."""
    decoder, given, seen = make_decoder(num_layers=1), proposals(), []
    decoder.position_mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    together, _ = together_and_alone()
    decoder(together, slots(), given)
    for image, (ratio_w, ratio_h) in enumerate([(1.0, 0.75), (0.5, 1.0)]):
        x, y, width, height = given.boxes_cxcywh_norm[image, 4].tolist()
        expected = []
        for share in (y * ratio_h, x * ratio_w, width * ratio_w, height * ratio_h):
            for frequency in (10000 ** (-2 * i / 8) for i in range(4)):
                angle = 2 * math.pi * share * frequency
                expected += [math.sin(angle), math.cos(angle)]
        found = seen[0][image, 4]
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("image", [0, 1])
@torch.no_grad()
def test_an_empty_slot_changes_nothing(image):
    decoder, given = make_decoder(), proposals()
    together, _ = together_and_alone()
    before, changed = slots(), slots()
    changed.features[0, 3] += 5  # the slot that is not valid
    first, second = (decoder(together, x, given) for x in (before, changed))
    torch.testing.assert_close(
        first.boxes_cxcywh_norm[:, image], second.boxes_cxcywh_norm[:, image]
    )
    torch.testing.assert_close(first.logits[:, image], second.logits[:, image])
    assert (first.logits[:, 0, :, 3] == -1e4).all()
