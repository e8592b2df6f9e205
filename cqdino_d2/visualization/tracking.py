"""Objects followed through the frames of a video: which boxes are the same one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torchvision.ops import box_iou

from ..files import require_package
from .result_view import Detection

PACKAGES = ("--no-deps", "trackers", "supervision", "pydeprecate", "defusedxml")
FOLLOWED_SHARE = 1 / 3  # of the threshold: what is followed already may score so low
_LOST_FRAMES = 30  # of a video of 30 frames a second: how long an object may be out of sight
_LEAST_IOU = 0.1  # of a box and where its object was expected
Frame = TypeVar("Frame")


class ObjectTracks:
    """Numbers the objects of one video by ByteTrack (Zhang et al., ECCV 2022).

    Boxes are put to objects by where these are expected, whatever the boxes are called: boxes of a
    high score first, others to objects that are followed already. An object that is out of sight
    for up to a second keeps its number. A box that is seen in a single frame gets none.

    Args:
        rate: frames per second.
        threshold: score from which a box may be a new object, 0..1.

    Raises:
        ModuleNotFoundError: the package trackers is not installed.
    """

    def __init__(self, rate: float, threshold: float) -> None:
        trackers = require_package("trackers", "following objects", PACKAGES)
        self._boxes = require_package("supervision", "following objects", PACKAGES).Detections
        self._tracker = trackers.ByteTrackTracker(
            lost_track_buffer=_LOST_FRAMES,
            frame_rate=rate,
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
            minimum_consecutive_frames=2,
            minimum_iou_threshold=_LEAST_IOU,
        )
        self._threshold, self._known = threshold, 0

    def follow(
        self, frames: Iterable[tuple[Frame, Sequence[Detection]]]
    ) -> Iterator[tuple[Frame, list[Detection]]]:
        """Frames with their objects, of which those that are followed bear a ``track_id`` from 1.

        A frame is given out when the next one was looked at, as an object has its number from its
        first frame on. Left out are boxes below the threshold that belong to no object.

        Args:
            frames: in their order, each with all that was found from `FOLLOWED_SHARE` of the
                threshold on.
        """
        waiting: list[tuple[Frame, list[Detection]]] = []
        for frame, found in frames:
            numbered = self._numbered(found)
            if waiting:
                before, earlier = waiting.pop()
                yield before, self._kept(_with_first_boxes(earlier, numbered, self._known))
            self._known = max([self._known, *(item.track_id or 0 for item in numbered)])
            waiting.append((frame, numbered))
        for frame, found in waiting:
            yield frame, self._kept(found)

    def _numbered(self, found: Sequence[Detection]) -> list[Detection]:
        """The boxes in their order, with the numbers that the tracker gives them."""
        boxes = np.asarray([item.box_xyxy_abs for item in found], np.float64).reshape(-1, 4)
        told: Any = self._tracker.update(
            self._boxes(
                xyxy=boxes,
                confidence=np.asarray([item.score for item in found], np.float64),
                data={"place": np.arange(len(found))},
            )
        )
        numbers = [-1] * len(found)
        if len(told):
            for place, number in zip(told.data["place"], told.tracker_id, strict=True):
                numbers[place] = int(number)  # -1 for none
        return [
            replace(item, track_id=None if number < 0 else number + 1)
            for item, number in zip(found, numbers, strict=True)
        ]

    def _kept(self, found: Sequence[Detection]) -> list[Detection]:
        return [
            item for item in found if item.track_id is not None or item.score >= self._threshold
        ]


def _with_first_boxes(
    earlier: Sequence[Detection], later: Sequence[Detection], known: int
) -> list[Detection]:
    """The boxes of a frame, those included where objects begin that got a number one frame later.

    Args:
        earlier: of the frame.
        later: of the next one.
        known: the highest number up to the frame.
    """
    new = [item for item in later if (item.track_id or 0) > known]
    free = [place for place, item in enumerate(earlier) if item.track_id is None]
    result = list(earlier)
    overlaps = box_iou(_boxes_of(new), _boxes_of([earlier[place] for place in free]))
    for _ in range(min(overlaps.shape)):
        row, column = divmod(int(overlaps.argmax()), overlaps.shape[1])
        if overlaps[row, column] <= 0:
            break
        place = free[column]
        result[place] = replace(result[place], track_id=new[row].track_id)
        overlaps[row], overlaps[:, column] = -1, -1
    return result


def _boxes_of(found: Sequence[Detection]) -> torch.Tensor:
    return torch.tensor([item.box_xyxy_abs for item in found]).reshape(-1, 4)
