from functools import partial

import pytest
import torch

from cqdino_d2.structures import ClassSlots
from cqdino_d2.transformer import BiAttention, DeformableEncoderLayer, Encoder, ImageTokenizer
from cqdino_d2.transformer.encoder import encoder_references
from cqdino_d2.transformer.query_selection import token_anchors


def make_tokens():
    maps = [torch.randn(2, 8, 6, 8), torch.randn(2, 8, 3, 4)]
    return ImageTokenizer(dim=8, num_levels=2)(maps, [(48, 64), (24, 32)], (48, 64))


def test_levels_follow_each_other_row_by_row():
    tokens = make_tokens()
    assert tokens.features.shape == tokens.position.shape == (2, 60, 8)
    assert tokens.level_start_index.tolist() == [0, 48]
    assert tokens.level_index().tolist() == [0] * 48 + [1] * 12


def test_padding_and_valid_ratios():
    tokens = make_tokens()
    assert not tokens.padding_mask[0].any()
    mask = tokens.padding_mask[1, :48].view(6, 8)
    assert not mask[:3, :4].any() and mask[3:].all() and mask[:, 4:].all()
    torch.testing.assert_close(tokens.valid_ratios[1, 0], torch.tensor([0.5, 0.5]))


def test_references_point_at_the_token_itself_on_its_own_level():
    tokens = make_tokens()
    references = encoder_references(tokens)
    assert references.shape == (2, 60, 2, 2)
    for image in range(2):
        torch.testing.assert_close(references[image, :48, 0], tokens.grid_centres()[:48])


def test_anchors_are_relative_to_the_image_and_double_per_level():
    logits, usable = token_anchors(make_tokens())
    anchors = logits.sigmoid()
    torch.testing.assert_close(anchors[0, 9], torch.tensor([1.5 / 8, 1.5 / 6, 0.05, 0.05]))
    torch.testing.assert_close(anchors[0, 48, 2:], torch.tensor([0.1, 0.1]))
    torch.testing.assert_close(anchors[1, 9, :2], torch.tensor([1.5 / 4, 1.5 / 3]))
    assert not usable[1, 4 * 8 : 48].any()
    assert torch.isinf(logits[1][~usable[1]]).all()


def test_levels_can_be_split_off():
    tokens = make_tokens()
    fine, coarse = tokens.split_at_level(1)
    assert torch.equal(torch.cat([fine, coarse.features], dim=1), tokens.features)
    assert coarse.spatial_shapes.tolist() == [[3, 4]]
    assert coarse.level_start_index.tolist() == [0]
    assert tokens.split_at_level(0)[1] is tokens


def test_the_encoder_leaves_finer_levels_alone():
    tokens = make_tokens()
    categories = ClassSlots(
        features=torch.randn(2, 3, 8),
        vocab_ids=torch.arange(3).expand(2, -1),
        valid=torch.ones(2, 3, dtype=torch.bool),
    )
    parts = dict(
        image_layer=partial(DeformableEncoderLayer, dim=8, num_heads=2, hidden_dim=8),
        exchange=partial(BiAttention, dim=8, attention_dim=8),
    )
    encoder = Encoder(**parts, num_levels=2, num_layers=2, first_level=1)
    encoded, _ = encoder(tokens, categories)
    assert torch.equal(encoded.features[:, :48], tokens.features[:, :48])
    assert not torch.allclose(encoded.features[:, 48:], tokens.features[:, 48:])
    with pytest.raises(ValueError, match="first_level"):
        Encoder(**parts, num_levels=2, first_level=2)
