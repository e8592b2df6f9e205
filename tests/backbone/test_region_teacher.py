"""The teacher against open_clip's own forward pass and a crop by hand."""

import pytest
import torch
from torch import nn

from cqdino_d2.backbone import ClipResNet, RegionTeacher, random_clip_resnet
from tests.slots import make_targets

SIZES = dict(layers=[1, 1, 1, 1], width=4, heads=2, dim=24)
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
WHOLE = [0.5, 0.5, 1.0, 1.0]


def make_teacher():
    torch.manual_seed(0)
    tower = random_clip_resnet(**SIZES)
    with torch.no_grad():  # open_clip's blocks start as identities
        for parameter in tower.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return RegionTeacher(tower=lambda: tower, pixel_mean=MEAN, pixel_std=STD), tower


def normalised(images, mean, std):
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_the_box_of_a_whole_image_is_the_image_to_clip():
    teacher, tower = make_teacher()
    pixels = torch.rand(2, 3, 224, 224) * 255
    targets = [
        make_targets([WHOLE], [0], (224, 224)),
        make_targets([WHOLE] * 2, [1, 2], (224, 224)),
    ]
    found = teacher(normalised(pixels, MEAN, STD), targets)
    with torch.no_grad():
        wanted = tower.visual(normalised(pixels / 255, tower.pixel_mean, tower.pixel_std))
    torch.testing.assert_close(found[0].region_embeddings, wanted[:1], rtol=1e-4, atol=1e-5)
    expected = wanted[1:].expand(2, -1)
    torch.testing.assert_close(found[1].region_embeddings, expected, rtol=1e-4, atol=1e-5)
    assert not found[0].region_embeddings.requires_grad
    assert found[1].vocab_ids is targets[1].vocab_ids


def test_boxes_are_shares_of_the_unpadded_image():
    """An image of 224 x 224 in the corner of a larger batch: the box of its left half."""
    teacher, tower = make_teacher()
    images = torch.randn(1, 3, 224, 320)
    half = make_targets([[0.25, 0.5, 0.5, 1.0]], [0], (224, 224))
    found = teacher.regions(tower.eval(), images, [half])
    with torch.no_grad():
        whole_map = tower(teacher.renormalised(images, tower))
    # bin i of 7 covers columns 0.5 i .. 0.5 i + 0.5, sampled once, in the middle
    centres = [0.5 * i + 0.25 - 0.5 for i in range(7)]
    for i, x in enumerate(centres):
        left = max(0, int(x // 1))
        part = max(0.0, x) - left
        expected = (1 - part) * whole_map[0, :, :, left] + part * whole_map[0, :, :, left + 1]
        torch.testing.assert_close(found[0, :, :, i], expected, rtol=1e-4, atol=1e-5)


def test_images_without_boxes_get_nothing():
    teacher, _ = make_teacher()
    images = torch.randn(2, 3, 64, 64)
    nothing = make_targets([], [], (64, 64))
    found = teacher(images, [nothing, make_targets([WHOLE], [3], (64, 64))])
    assert [tuple(t.region_embeddings.shape) for t in found] == [(0, 24), (1, 24)]
    found = teacher(images, [nothing, nothing])
    assert [tuple(t.region_embeddings.shape) for t in found] == [(0, 24), (0, 24)]


def test_the_tower_is_made_once_and_when_needed():
    made = []

    def make():
        made.append(random_clip_resnet(**SIZES))
        return made[-1]

    teacher = RegionTeacher(tower=make).train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert made == [] and list(teacher.parameters()) == []
    for _ in range(2):
        teacher(torch.zeros(1, 3, 32, 32), [make_targets([WHOLE], [0], (32, 32))])
    assert torch.equal(torch.get_rng_state(), before), "a resumed run would draw other noise"
    assert len(made) == 1 and not made[0].training and list(teacher.state_dict()) == []


def test_other_towers_are_refused():
    with pytest.raises(ValueError, match="one of CLIP's ResNets, got a Linear"):
        ClipResNet(nn.Linear(2, 2))
