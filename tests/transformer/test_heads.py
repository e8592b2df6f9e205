"""The classification head beside the similarity head, and what goes with it."""

from functools import partial

import pytest
import torch

from cqdino_d2.structures import ClassSlots, ImageTokens, random_vocabulary
from cqdino_d2.transformer import (
    ClassificationHead,
    Decoder,
    DeformableEncoderLayer,
    Encoder,
    QuerySelection,
)

VOCABULARY = random_vocabulary(7)


def categories(num_slots=7, batch=2, dim=8):
    ids = torch.arange(num_slots).expand(batch, -1)
    return ClassSlots(
        features=torch.randn(batch, num_slots, dim),
        vocab_ids=ids,
        valid=torch.ones_like(ids, dtype=torch.bool),
    )


def tokens(batch=2, dim=8, side=4):
    count = side * side
    return ImageTokens(
        features=torch.randn(batch, count, dim),
        position=torch.randn(batch, count, dim),
        padding_mask=torch.zeros(batch, count, dtype=torch.bool),
        spatial_shapes=torch.tensor([[side, side]]),
        level_start_index=torch.tensor([0]),
        valid_ratios=torch.ones(batch, 1, 2),
        level_sizes=((side, side),),
    )


def test_it_is_a_linear_layer_that_starts_at_the_prior():
    head = ClassificationHead(dim=8, vocabulary=VOCABULARY, prior=0.01)
    assert head.weight.shape == (7, 8)
    logits = head(torch.zeros(2, 3, 8), categories())
    torch.testing.assert_close(logits.sigmoid(), torch.full((2, 3, 7), 0.01))
    queries = torch.randn(2, 3, 8)
    expected = queries @ head.weight.T + head.bias
    torch.testing.assert_close(head(queries, categories()), expected)


def test_it_refuses_a_selection():
    head = ClassificationHead(dim=8, vocabulary=VOCABULARY)
    with pytest.raises(ValueError, match="7 categories needs them all as slots.*got 4"):
        head(torch.zeros(2, 3, 8), categories(4))


def test_every_layer_has_a_head_of_its_own_and_categories_are_not_looked_at():
    torch.manual_seed(0)
    head = partial(ClassificationHead, dim=8, vocabulary=VOCABULARY)
    selection = QuerySelection(dim=8, num_queries=3, class_head=head)
    decoder = Decoder(
        dim=8, num_levels=1, num_layers=2, num_heads=2, hidden_dim=8,
        category_attention=False, class_head=head,
    )  # fmt: skip
    weights = {h.weight.data_ptr() for h in [selection.class_head, *decoder.class_heads]}
    assert len(weights) == 3
    assert not [name for name, _ in decoder.named_parameters() if "category" in name]
    image, one, other = tokens(), categories(), categories()
    for any_categories in (one, other):
        proposals = selection(image, any_categories)
        output = decoder(image, any_categories, proposals)
        assert output.logits.shape == (2, 2, 3, 7)
        if any_categories is one:
            first = output
    torch.testing.assert_close(first.logits, output.logits)


def test_the_image_encoder_leaves_the_categories_alone():
    layer = partial(DeformableEncoderLayer, dim=8, num_heads=2, hidden_dim=8)
    encoder = Encoder(image_layer=layer, num_levels=1, num_layers=2)
    assert not [name for name, _ in encoder.named_parameters() if "fusion" in name]
    image, given = tokens(), categories()
    encoded, same = encoder(image, given)
    assert same is given
    assert encoded.features.shape == image.features.shape
    assert not torch.allclose(encoded.features, image.features)
