"""What the C++ core takes from outside is checked before it is used to read memory."""

import numpy as np
import pytest

from cqdino_d2.evaluation import compiled

pytestmark = pytest.mark.skipif(not compiled.is_available(), reason="not built")

AREAS = np.array([[0, 1e10], [0, 32.0**2]])
IOUS = np.linspace(0.5, 0.95, 10)


def matching(**changes):
    """Two detections of category 1, a box of it and one of category 0, above it."""
    box = [0.0, 0, 10, 10]
    arguments = dict(
        images=np.array([0, 1], np.int32),
        categories=np.array([1, 1], np.int32),
        boxes=np.array([box, box]),
        scores=np.array([0.5, 0.9]),
        exempt=np.empty(0, np.uint8),
        gt_images=np.array([0, 1], np.int32),
        gt_categories=np.array([1, 0], np.int32),
        gt_boxes=np.array([box, box]),
        gt_areas=np.array([100.0, 100]),
        gt_flags=np.zeros(2, np.uint8),
        ancestor_offsets=np.array([0, 0, 1], np.int64),
        ancestors=np.array([0], np.int64),
        iou_thresholds=IOUS,
        area_ranges=AREAS,
        max_dets=np.array([1, 100], np.int64),
        num_categories=2,
        num_threads=2,
        keep_matches=True,
    )
    return compiled._binary().match_detections(*(arguments | changes).values())


def int64(*values):
    return np.array(values, np.int64)


def int32(*values):
    return np.array(values, np.int32)


def test_sound_arguments():
    starts, ends, _, ranks, _, _, num_boxes, matches = matching()
    assert starts.tolist() == [0, 0] and ends.tolist() == [0, 2]
    assert ranks.tolist() == [0, 0] and num_boxes.tolist() == [[1, 1], [1, 1]]
    assert matches.tolist() == [0, -2]
    no_tree = dict(ancestor_offsets=int64(0), ancestors=int64())
    assert matching(**no_tree)[-1].tolist() == [0, -1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(ancestor_offsets=int64(0, 1, 0)), "from 0 to 1"),
        (dict(ancestor_offsets=int64(0, 5, 1)), "must ascend"),
        (dict(ancestor_offsets=int64(0, -5, 1)), "must ascend"),
        (dict(ancestor_offsets=int64(1, 1, 1)), "from 0 to 1"),
        (dict(ancestor_offsets=int64(-(2**40), 0, 1)), "from 0 to 1"),
        (dict(ancestor_offsets=int64(0, 1, 2**40)), "from 0 to 1"),
        (dict(ancestor_offsets=int64(0, 1)), "expected 3 ancestor_offsets"),
        (dict(ancestor_offsets=int64(0)), "expected 3 ancestor_offsets"),
        (dict(ancestor_offsets=int64()), "expected 3 ancestor_offsets"),
        (dict(ancestor_offsets=int64(1), ancestors=int64()), "from 0 to 0"),
        (dict(ancestors=int64(2)), "unknown ancestors"),
        (dict(ancestors=int64(-1)), "ancestors has numbers out of range"),
        (dict(iou_thresholds=np.empty(0)), r"expected 1\.\.32 IoU thresholds, got 0"),
        (dict(iou_thresholds=np.ones(33)), r"expected 1\.\.32 IoU thresholds, got 33"),
        (dict(area_ranges=np.empty((0, 2))), r"expected 1\.\.8 area ranges, got 0"),
        (dict(area_ranges=np.ones((9, 2))), r"expected 1\.\.8 area ranges, got 9"),
        (dict(area_ranges=np.ones(4)), "area_ranges must be"),
        (dict(max_dets=int64()), "max_dets is empty"),
        (dict(max_dets=int64(0)), "max_dets must be positive"),
        (dict(max_dets=int64(5, 1)), "max_dets must ascend"),
        (dict(images=int32(0, -1)), "images has numbers out of range"),
        (dict(images=int32(0)), "categories must be"),
        (dict(categories=int32(2, 1)), "row 0 has category 2"),
        (dict(categories=int32(-2, 1)), "row 0 has category -2"),
        (dict(gt_images=int32(1, 0)), "gt_images must ascend"),
        (dict(gt_images=int32(-1, 0)), "gt_images has numbers out of range"),
        (dict(gt_categories=int32(2, 1)), "row 0 has category 2"),
        (dict(gt_boxes=np.ones((1, 4))), "gt_boxes must be"),
        (dict(gt_areas=np.ones(3)), "gt_areas must be"),
        (dict(gt_flags=np.zeros(1, np.uint8)), "gt_flags must be"),
        (dict(exempt=np.zeros(1, np.uint8)), "exempt must be"),
        (dict(boxes=np.ones((2, 3))), "boxes must be"),
        (dict(boxes=np.ones((2, 8))[:, ::2]), "boxes must be"),
        (dict(boxes=np.ones((2, 4), np.float32)), "boxes must be"),
        (dict(scores=np.ones(1)), "scores must be"),
        (dict(scores=np.array([np.nan, 1])), "scores has a NaN"),
        (dict(num_categories=-1), "num_categories is out of range"),
        (dict(num_categories=2**31), "num_categories is out of range"),
        (dict(num_threads=0), "num_threads must be in 1"),
        (dict(num_threads=2**40), "num_threads must be in 1"),
    ],
)
def test_what_does_not_fit_is_a_value_error(changes, message):
    with pytest.raises(ValueError, match=message):
        matching(**changes)


def accumulating(**changes):
    """Two detections of one category."""
    arguments = dict(
        starts=int64(0),
        ends=int64(2),
        scores=np.array([0.9, 0.5]),
        ranks=int32(0, 1),
        codes=int32(0, 4),
        masks=np.zeros((5, 2, 2), np.int32),
        num_boxes=np.ones((1, 2), np.int64),
        iou_thresholds=IOUS,
        recall_thresholds=np.linspace(0, 1, 11),
        area_ranges=AREAS,
        max_dets=int64(1, 100),
        num_threads=1,
        keep_all=True,
    )
    return compiled._binary().accumulate_outcomes(*(arguments | changes).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(starts=int64(-1)), "category 0 has rows -1"),
        (dict(starts=int64(3)), "category 0 has rows 3"),
        (dict(ends=int64(3)), r"category 0 has rows 0\.\.3 of 2"),
        (dict(ends=int64(2, 2)), "ends must be"),
        (dict(ranks=int32(0)), "ranks must be"),
        (dict(codes=int32(0, 5)), "codes without masks"),
        (dict(codes=int32(0, -1)), "codes has numbers out of range"),
        (dict(masks=np.zeros((5, 4), np.int32)), "masks must be"),
        (dict(num_boxes=np.ones((2, 2), np.int64)), "num_boxes must be"),
        (dict(num_boxes=-np.ones((1, 2), np.int64)), "num_boxes has negative numbers"),
        (dict(scores=np.array([0.9, np.nan])), "scores has a NaN"),
        (dict(iou_thresholds=np.empty(0)), r"expected 1\.\.32 IoU thresholds, got 0"),
        (dict(recall_thresholds=np.empty(0)), "recall_thresholds is empty"),
        (dict(area_ranges=np.empty((0, 2))), r"expected 1\.\.8 area ranges"),
        (dict(max_dets=int64()), "max_dets is empty"),
        (dict(num_threads=0), "num_threads must be in 1"),
    ],
)
def test_outcomes_that_do_not_fit_are_value_errors(changes, message):
    assert accumulating()[0].shape == (1, 2, 2, 10, 11)
    with pytest.raises(ValueError, match=message):
        accumulating(**changes)


def test_what_no_category_has_is_not_looked_at():
    """The matching leaves rows beyond its limit unwritten: they may hold anything."""
    rows = dict(ranks=int32(0, 1, 0), codes=int32(0, 4, 0))
    expected = accumulating()
    for rest in (np.nan, np.inf, 0.0):
        found = accumulating(scores=np.array([0.9, 0.5, rest]), **rows)
        for array, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_text_must_lie_in_one_piece():
    text = bytearray(b'{"image_id":1,"category_id":2,"bbox":[1,2,3,4],"score":0.5}')
    assert compiled._binary().parse_results(text)[0].tolist() == [1]
    for strange in (memoryview(text)[::-1], memoryview(text)[::2], memoryview(text).cast("b")[::3]):
        with pytest.raises((ValueError, BufferError)):
            compiled._binary().parse_results(strange)
