"""Predictions as columns: compact to keep, to gather and to evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.structures import Instances


@dataclass(frozen=True)
class Detections:
    """N detections.

    Attributes:
        image_ids: (N,) int64, the data set's ids.
        vocab_ids: (N,) int32 contiguous category ids.
        boxes_xyxy_abs: (N, 4) float32, in the original image.
        scores: (N,) float32.
    """

    image_ids: np.ndarray
    vocab_ids: np.ndarray
    boxes_xyxy_abs: np.ndarray
    scores: np.ndarray

    @classmethod
    def from_instances(cls, image_id: int, instances: Instances) -> Detections:
        """Takes ``pred_boxes``, ``scores`` and ``pred_classes`` of one image."""
        instances = instances.to("cpu")
        return cls(
            image_ids=np.full(len(instances), image_id, dtype=np.int64),
            vocab_ids=instances.pred_classes.numpy().astype(np.int32),
            boxes_xyxy_abs=instances.pred_boxes.tensor.float().numpy(),
            scores=instances.scores.float().numpy(),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """Joins any number of parts, in their order."""
        empty = cls(
            np.empty(0, np.int64),
            np.empty(0, np.int32),
            np.empty((0, 4), np.float32),
            np.empty(0, np.float32),
        )
        parts = [empty, *parts]
        return cls(
            np.concatenate([part.image_ids for part in parts]),
            np.concatenate([part.vocab_ids for part in parts]),
            np.concatenate([part.boxes_xyxy_abs for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def boxes_xywh_abs(self) -> np.ndarray:
        """(N, 4) float64 boxes as COCO files have them: left, top, width, height."""
        boxes = self.boxes_xyxy_abs.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return boxes
