"""Images and targets as the model prepares them, by hand, for images that are not square."""

import pytest
import torch

from tests.tiny import make_input, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def test_boxes_are_relative_to_the_width_and_height_of_their_own_image(model):
    batch = [
        make_input(size=(48, 80), boxes=[(8, 6, 48, 18), (0, 0, 80, 48)], classes=[7, 9]),
        make_input(size=(64, 40), boxes=[(10, 16, 20, 64)], classes=[2]),
    ]
    first, second = model.prepare_targets(batch)
    expected = torch.tensor([[0.35, 0.25, 0.5, 0.25], [0.5, 0.5, 1.0, 1.0]])
    torch.testing.assert_close(first.boxes_cxcywh_norm, expected)
    torch.testing.assert_close(second.boxes_cxcywh_norm, torch.tensor([[0.375, 0.625, 0.25, 0.75]]))
    assert first.vocab_ids.tolist() == [7, 9] and second.vocab_ids.tolist() == [2]
    assert first.image_size == (48, 80) and second.image_size == (64, 40)


def test_an_image_without_boxes_has_empty_targets(model):
    [target] = model.prepare_targets([make_input(size=(48, 80), boxes=[])])
    assert target.boxes_cxcywh_norm.shape == (0, 4) and len(target) == 0


def test_images_are_normalised_and_padded_with_zeros_at_the_right_and_bottom(model):
    batch = [make_input(size=(48, 80), seed=1), make_input(size=(64, 40), seed=2)]
    images = model.preprocess(batch)
    assert images.tensor.shape == (2, 3, 64, 80)
    assert [tuple(size) for size in images.image_sizes] == [(48, 80), (64, 40)]
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    for item, padded, (height, width) in zip(
        batch, images.tensor, [(48, 80), (64, 40)], strict=True
    ):
        for channel in range(3):
            value = (float(item["image"][channel, 10, 30]) - mean[channel]) / std[channel]
            assert padded[channel, 10, 30].item() == pytest.approx(value, rel=1e-5)
        assert padded[:, :height, :width].any(dim=0).all()
        assert not padded[:, height:].any() and not padded[:, :, width:].any()


def test_the_memory_of_the_kept_queries_is_counted(model):
    model.train()
    assert model.kept_bytes == 0
    with torch.no_grad():
        queries = model.eval().class_queries()
    expected = sum(4 * x.numel() for x in (queries.features, queries.projected))
    assert model.kept_bytes == expected > 4 * 40
