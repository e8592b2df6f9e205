"""Objects on known ways, and whether each keeps its number."""

import sys

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from cqdino_d2.visualization.result_view import Detection
from cqdino_d2.visualization.tracking import ObjectTracks

pytest.importorskip("trackers", reason="trackers is not installed")
RATE = 30.0
THRESHOLD = 0.5


def box(frame, start, speed, size):
    """Where an object is that moves evenly: the way is the test's own, no filter's."""
    x, y = (place + frame * step for place, step in zip(start, speed, strict=True))
    return (x, y, x + size[0], y + size[1])


# name (vocab_id) -> start, pixels per frame and size; 0 and 1 cross, 2 stands alone
WAYS = {
    0: ((10.0, 40.0), (6.0, 0.0), (40.0, 30.0)),
    1: ((250.0, 30.0), (-5.0, 0.2), (30.0, 44.0)),
    2: ((300.0, 180.0), (0.0, -1.0), (24.0, 20.0)),
}


def video(frames, ways=WAYS, hidden=(), scores=None):
    """Frames with the objects on their ways, in an order that changes; hidden are (frame, id)."""
    rng = np.random.default_rng(0)
    for frame in range(frames):
        found = [
            Detection(
                key, key, (scores or {}).get((frame, key), 0.9 - 0.1 * key), box(frame, *ways[key])
            )
            for key in rng.permutation(list(ways)).tolist()
            if (frame, key) not in hidden
        ]
        yield frame, found


def numbers(frames, rate=RATE):
    """Object -> the numbers it has had, in order of frames."""
    told = {}
    for frame, found in ObjectTracks(rate, THRESHOLD).follow(frames):
        for item in found:
            told.setdefault(item.vocab_id, []).append((frame, item.track_id))
    return told


def test_objects_that_cross_keep_their_numbers():
    told = numbers(video(45))
    assert {key: len(seen) for key, seen in told.items()} == {0: 45, 1: 45, 2: 45}
    kept = {key: {number for _, number in seen} for key, seen in told.items()}
    assert sorted(kept.values(), key=min) == [{1}, {2}, {3}]  # from the first frame on
    ways = torch.tensor([[box(frame, *WAYS[key]) for frame in range(45)] for key in (0, 1)])
    assert box_iou(ways[0], ways[1]).diagonal().max() > 0.3  # they do cover each other on the way


def test_frames_come_back_in_order_with_their_boxes():
    given = list(video(9))
    back = list(ObjectTracks(RATE, THRESHOLD).follow(given))
    assert [frame for frame, _ in back] == list(range(9))
    for (_, before), (_, after) in zip(given, back, strict=True):
        assert [one.box_xyxy_abs for one in before] == [one.box_xyxy_abs for one in after]


@pytest.mark.parametrize(
    ("rate", "gap", "is_same"), [(30, 8, True), (30, 40, False), (10, 15, False)]
)
def test_a_gap_of_up_to_a_second(rate, gap, is_same):
    hidden = {(frame, 2) for frame in range(20, 20 + gap)}
    told = numbers(video(80, hidden=hidden), rate)
    assert len({number for _, number in told[2]}) == (1 if is_same else 2)
    assert all(len({number for _, number in told[key]}) == 1 for key in (0, 1))


def test_what_comes_later_is_numbered_from_its_first_frame():
    hidden = {(frame, 1) for frame in range(12)}
    told = numbers(video(20, hidden=hidden))
    assert told[1] == [(frame, 3) for frame in range(12, 20)]


def test_low_scores_continue_an_object_and_begin_none():
    low = {(frame, 2): 0.2 for frame in range(10, 14)}
    told = numbers(video(20, scores=low))
    assert [frame for frame, _ in told[2]] == list(range(20))
    assert len({number for _, number in told[2]}) == 1
    never = numbers(video(20, scores={(frame, 2): 0.2 for frame in range(20)}))
    assert set(never) == {0, 1}


def test_a_box_of_a_single_frame_is_shown_without_a_number():
    hidden = {(frame, 2) for frame in range(30) if frame != 7}
    assert numbers(video(30, hidden=hidden))[2] == [(7, None)]
    assert numbers(video(1))[0] == [(0, None)]
    assert numbers(iter([(0, []), (1, [])])) == {}


def test_the_package_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps trackers supervision"):
        ObjectTracks(RATE, THRESHOLD)
