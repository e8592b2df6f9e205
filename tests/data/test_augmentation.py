import numpy as np
import pytest
from detectron2.data import transforms as T

from cqdino_d2.data.augmentation import (
    AtLeastOnePixel,
    ResizeShortestEdgeTruncated,
    large_scale_jitter,
    resized_size,
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
    assert resized_size(*size, 800, 1333) == expected


def sizes(augmentations, count=60):
    result = []
    for seed in range(count):
        np.random.seed(seed)  # noqa: NPY002
        augmented = T.AugInput(np.zeros((480, 640, 3), dtype=np.uint8))
        T.AugmentationList(augmentations)(augmented)
        result.append(augmented.image.shape[:2])
    return result


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1066)),
        ((500, 2000), (333, 1332)),  # truncated alone it is (333, 1333)
        ((4000, 800), (1335, 267)),
        ((1335, 801), (1333, 800)),
        ((5000, 1), (1333, 1)),
    ],
)
def test_the_short_side_may_come_first(size, expected):
    assert resized_size(*size, 800, 1333, short_side_first=True) == expected
    resize = ResizeShortestEdgeTruncated(800, 1333, short_side_first=True)
    transform = resize.get_transform(np.zeros((*size, 3), dtype=np.uint8))
    assert (transform.new_h, transform.new_w) == expected


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


def test_large_scale_jitter():
    """A square of one size; what is left of a box is where the image puts it."""
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    image[100:200, 150:250] = 255
    shares = []
    for seed in range(30):
        np.random.seed(seed)  # noqa: NPY002
        augmented = T.AugInput(image, boxes=np.asarray([[150.0, 100.0, 250.0, 200.0]]))
        T.AugmentationList(large_scale_jitter(image_size=200, flip=0.5))(augmented)
        assert augmented.image.shape == (200, 200, 3)
        x0, y0, x1, y1 = np.clip(augmented.boxes[0], 0, 200)
        ys, xs = np.nonzero(augmented.image[:, :, 0] > 200)
        if (x1 - x0) * (y1 - y0) > 100:
            found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert np.allclose(found, [x0, y0, x1, y1], atol=2)
        shares.append((augmented.boxes[0, 2] - augmented.boxes[0, 0]) / 200)
    assert min(shares) < 0.08 and max(shares) > 0.4, "scales of 0.1..2 of 100 / 400"
    with pytest.raises(ValueError, match=r"MIN <= MAX.*\(2, 1\)"):
        large_scale_jitter(scales=(2, 1))


@pytest.mark.parametrize("size", [(1, 4000), (5000, 1), (3, 2000), (1, 1)])
@pytest.mark.parametrize(
    "augmentations", [training_augmentations(crop=True), large_scale_jitter(image_size=256)]
)
def test_thin_images_keep_a_pixel_in_training(size, augmentations):
    height, width = size
    for seed in range(25):
        np.random.seed(seed)  # noqa: NPY002
        boxes = np.asarray([[0.0, 0.0, width, height]])
        augmented = T.AugInput(np.zeros((*size, 3), dtype=np.uint8), boxes=boxes)
        T.AugmentationList(augmentations)(augmented)
        assert 1 <= min(augmented.image.shape[:2]) <= max(augmented.image.shape[:2]) <= 1333
        assert np.isfinite(augmented.boxes).all()


def test_a_resize_that_leaves_something_is_left_alone():
    for size in [(480, 640), (123, 77)]:
        image = np.zeros((*size, 3), dtype=np.uint8)
        own, theirs = AtLeastOnePixel(T.ResizeShortestEdge(99, 160)), T.ResizeShortestEdge(99, 160)
        first, second = own.get_transform(image), theirs.get_transform(image)
        assert (first.new_h, first.new_w) == (second.new_h, second.new_w)
