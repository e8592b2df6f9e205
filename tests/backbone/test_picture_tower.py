"""The study's tower as a teacher: its file, and what it sees in a box."""

import pytest
import torch
from torch.nn import functional as F

from cqdino_d2.backbone import PictureTower, RegionTeacher, trained_picture_tower
from tests.slots import make_targets

SIZES = dict(dim=7, stem_channels=8, channels=[8, 16], strides=[2, 2], grid=3)


def make_tower():
    torch.manual_seed(0)
    return PictureTower(**SIZES).eval()


def test_a_map_is_pooled_and_projected():
    tower = make_tower()
    assert tower.stride == 8 and tower.grid == 3
    found = tower(torch.randn(2, 3, 40, 56))
    assert found.shape == (2, 16, 5, 7)
    weight, bias = tower.projection.weight, tower.projection.bias
    mean = found.sum(dim=(2, 3)) / 35
    torch.testing.assert_close(tower.pool(found), mean @ weight.T + bias)


def test_its_file_makes_it_again(tmp_path):
    tower, path = make_tower(), tmp_path / "tower.pth"
    torch.save(tower.content(), path)
    again = trained_picture_tower(path).eval()
    images = torch.randn(1, 3, 24, 32)
    assert torch.equal(again(images), tower(images)) and again.settings == tower.settings


def test_what_is_no_tower_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        trained_picture_tower(tmp_path / "gone.pth")
    content = make_tower().content()
    for wrong in ({"model": {}}, content | {"weights": {}}, content | {"settings": {"size": 3}}):
        torch.save(wrong, tmp_path / "other.pth")
        with pytest.raises(ValueError, match=r"other\.pth holds no image tower, but"):
            trained_picture_tower(tmp_path / "other.pth")


def test_it_teaches_what_it_sees_in_boxes():
    """A box around one of two plain areas is that area alone; the tower's padding is far away."""
    tower = make_tower()
    teacher = RegionTeacher(tower=make_tower)
    pixels = torch.zeros(1, 3, 128, 256)
    pixels[..., 128:] = 1.5
    left, right = ([x, 0.5, 0.1, 0.2] for x in (0.25, 0.75))
    (found,) = teacher(pixels, [make_targets([left, right], [0, 1], (128, 256))])
    areas = teacher.renormalised(torch.stack([pixels[0, :, :, :128], pixels[0, :, :, 128:]]), tower)
    with torch.no_grad():
        wanted = tower.pool(tower(areas)[:, :, 7:9, 7:9])
    seen = found.region_embeddings
    assert seen.shape == (2, 7) == (2, teacher.embedding_dim())
    torch.testing.assert_close(seen, wanted, rtol=1e-3, atol=1e-4)
    assert F.cosine_similarity(seen[:1], seen[1:]) < 0.999
