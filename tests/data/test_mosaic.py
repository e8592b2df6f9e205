"""Mosaics against a plain formulation, one pixel at a time."""

import random

import numpy as np
import pytest

from cqdino_d2.data.mosaic import CutMosaic, PlacedImage, QuadrantMosaic

SIZES = [(20, 30), (50, 41), (32, 32), (10, 27)]  # height, width


def images():
    return [np.full((*size, 3), 20 * (i + 1), dtype=np.uint8) for i, size in enumerate(SIZES)]


def whole_boxes():
    return [np.asarray([[0, 0, width, height]], dtype=float) for height, width in SIZES]


class Fixed:
    """Draws that are given; it keeps the ranges."""

    def __init__(self, *values):
        self.values, self.ranges = list(values), []

    def uniform(self, low, high):
        self.ranges.append((low, high))
        return self.values.pop(0)


def test_a_cut_mosaic_is_cut_at_the_edge():
    draws = Fixed(0.5, 1.25)
    canvas, boxes = CutMosaic(side=64)(images(), whole_boxes(), draws)
    assert draws.ranges == [(0.5, 1.5), (0.5, 1.5)] and not draws.values
    x, y = 16, 40
    expected = np.full((64, 64, 3), 114)
    rectangles = []
    for index, (height, width) in enumerate(SIZES):
        scale = min(32 / height, 32 / width)
        w, h = int(width * scale), int(height * scale)
        left, top = (x if index % 2 else x - w), (y if index > 1 else y - h)
        for row in range(h):
            for column in range(w):
                if 0 <= top + row < 64 and 0 <= left + column < 64:
                    expected[top + row, left + column] = 20 * (index + 1)
        end_x, end_y = left + scale * width, top + scale * height
        rectangles.append([max(left, 0), max(top, 0), min(end_x, 64), min(end_y, 64)])
    assert np.array_equal(canvas, expected)
    np.testing.assert_allclose(np.asarray(boxes), rectangles)
    assert boxes[0, 0] == 0 and boxes[2, 3] == 64, "it cuts on both sides"


def test_the_centre_of_a_cut_mosaic_and_what_a_box_outside_becomes():
    mosaic = CutMosaic(side=640)
    centres = np.asarray([mosaic.centre(random.Random(seed)) for seed in range(300)])
    assert centres.min() >= 160 and centres.max() < 480
    assert centres.min() < 170 and centres.max() > 470
    assert len({*map(tuple, centres)}) > 290
    boxes = [np.asarray([[0, 0, 2, 3], [5.0, 6, 25, 18]]) for _ in SIZES]
    _, found = CutMosaic(side=64)(images(), boxes, Fixed(0.5, 0.5))
    assert found.shape == (8, 4)
    sides = found[:, 2:] - found[:, :2]
    assert (sides[0] <= 0).any(), "cut off with the corner it lies in"
    assert (sides >= 0).all() and (found >= 0).all() and (found <= 64).all()


def test_a_quadrant_mosaic_cuts_nothing():
    for centre in ((0.3, 0.7), (0.55, 0.45)):
        draws = Fixed(*centre)
        canvas, boxes = QuadrantMosaic(side=101)(images(), whole_boxes(), draws)
        assert draws.ranges == [(0.3, 0.7), (0.3, 0.7)]
        x, y = (int(101 * share) for share in centre)
        for index, (box, (height, width)) in enumerate(zip(boxes, SIZES, strict=True)):
            assert box[0 if index % 2 else 2] == x and box[1 if index > 1 else 3] == y
            x0, y0, x1, y1 = box.round().astype(int)
            assert (canvas[y0:y1, x0:x1] == 20 * (index + 1)).all()
            assert (canvas == 20 * (index + 1)).all(-1).sum() == (x1 - x0) * (y1 - y0)
            room = (101 - x if index % 2 else x), (101 - y if index > 1 else y)
            scale = min(room[0] / width, room[1] / height)
            assert (x1 - x0, y1 - y0) == (int(width * scale), int(height * scale))


@pytest.mark.parametrize("mosaic", [CutMosaic(side=64), QuadrantMosaic(side=64)])
def test_draws_decide_and_images_without_boxes_are_fine(mosaic):
    empty = [np.zeros((0, 4))] * 4
    first, boxes = mosaic(images(), empty, np.random.default_rng(3))
    again, _ = mosaic(images(), empty, np.random.default_rng(3))
    other, _ = mosaic(images(), empty, np.random.default_rng(4))
    assert boxes.shape == (0, 4)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_what_is_visible_of_an_image():
    assert PlacedImage((30, 20), (-5, 3), (1.0, 1.0)).visible(20) == (0, 3, 20, 20)


def test_what_cannot_be_a_mosaic():
    for mosaic in (CutMosaic(side=8), QuadrantMosaic(side=8)):
        with pytest.raises(ValueError, match="needs 4 images, got 3 images"):
            mosaic(images()[:3], whole_boxes()[:3], Fixed(1.0, 1.0))
    for kind in (CutMosaic, QuadrantMosaic):
        with pytest.raises(ValueError, match="at least 8 pixels, got 7"):
            kind(side=7)
    with pytest.raises(ValueError, match="must be even, got 81"):
        CutMosaic(side=81)
