import numpy as np
import pytest
from detectron2.data import transforms as T

from cqdino_d2.data.augmentation import (
    ResizeShortestEdgeTruncated,
    training_augmentations,
)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1066)),  # 1066.67: Detectron2 rounds to 1067
        ((640, 480), (1066, 800)),
        ((400, 1000), (533, 1333)),
        ((427, 640), (800, 1199)),
        ((1, 4000), (1, 1333)),
    ],
)
def test_truncated_sizes(size, expected):
    image = np.zeros((*size, 3), dtype=np.uint8)
    transform = ResizeShortestEdgeTruncated(800, 1333).get_transform(image)
    assert (transform.new_h, transform.new_w) == expected
    assert transform.apply_image(image).shape[:2] == expected


def sizes(augmentations, count=60):
    result = []
    for seed in range(count):
        np.random.seed(seed)  # noqa: NPY002
        augmented = T.AugInput(np.zeros((480, 640, 3), dtype=np.uint8))
        T.AugmentationList(augmentations)(augmented)
        result.append(augmented.image.shape[:2])
    return result


def test_multi_scale():
    short = {min(size) for size in sizes(training_augmentations())}
    assert short <= set(range(480, 801, 32))
    assert len(short) > 5


def test_crop_branch_changes_the_shape_of_about_half():
    ratios = [width / height for height, width in sizes(training_augmentations(crop=True))]
    uncropped = sum(abs(ratio - 4 / 3) < 0.01 for ratio in ratios)
    assert 15 < uncropped < 45


def test_inference_has_one_resize():
    assert sizes([ResizeShortestEdgeTruncated(100, 120)], 1) == [(90, 120)]
