"""What people see of a detector's result: boxes by name, selected categories, COCO rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from ..structures import Vocabulary
from .category_tree import CategoryTree, colour_of_number
from .defaults import SAME_OBJECT_IOU
from .drawing import LabelledBox, Rectangle, draw_boxes, draw_category_panel, short

_LONGEST_NAME = 60


@dataclass(frozen=True)
class Detection:
    """One found object.

    Attributes:
        vocab_id: what it is.
        shown_id: what it is called: itself, or an ancestor.
        score: 0..1.
        box_xyxy_abs: in pixels.
        track_id: from 1, the same one in all frames of a video; None for what is not followed.
    """

    vocab_id: int
    shown_id: int
    score: float
    box_xyxy_abs: Rectangle
    track_id: int | None = None


@dataclass(frozen=True)
class ViewSettings:
    """What of a result is shown.

    Attributes:
        threshold: confidence threshold, 0..1.
        most: boxes per image, None without a limit.
        depth: of the tree at which things are named (1 for the roots); None for their own names.
        same_object_iou: of boxes of one name that overlap by this IoU or more the best one is shown
            (class-aware NMS); None shows all, but with a ``depth`` 0.5 is taken.
    """

    threshold: float = 0.3
    most: int | None = None
    depth: int | None = None
    same_object_iou: float | None = None


class ResultView:
    """Shows the results of one vocabulary.

    Args:
        vocabulary: of the predictor.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.tree = CategoryTree(vocabulary)

    def detections(self, result: Mapping[str, Any], settings: ViewSettings) -> list[Detection]:
        """The objects of a predictor's result, best first.

        Raises:
            ValueError: a result without boxes, as a tagger's.
        """
        instances = result["instances"].to("cpu")
        if not instances.has("pred_boxes"):
            raise ValueError("this model finds no boxes (a tagger of stage 1?): give a detector's")
        kept = instances[instances.scores >= settings.threshold]
        found = [
            Detection(vocab_id, self.tree.rolled_up(vocab_id, settings.depth), score, tuple(box))
            for vocab_id, score, box in zip(
                kept.pred_classes.tolist(),
                kept.scores.tolist(),
                kept.pred_boxes.tensor.tolist(),
                strict=True,
            )
        ]
        found.sort(key=lambda item: -item.score)
        iou = settings.same_object_iou
        if iou is None and settings.depth is not None:
            iou = SAME_OBJECT_IOU
        if iou is not None:
            found = _once_per_object(found, iou)
        return found[: settings.most]

    def draw(
        self, image_rgb: np.ndarray, found: Sequence[Detection], *, min_side: int = 640
    ) -> np.ndarray:
        """The image with boxes, names and scores in per cent; numbers of what is followed."""
        return draw_boxes(image_rgb, list(map(self._labelled, found)), min_side=min_side)

    def _labelled(self, item: Detection) -> LabelledBox:
        label = (
            f"{short(self.vocabulary.names[item.shown_id], _LONGEST_NAME)} {100 * item.score:.0f}"
        )
        if item.track_id is None:
            return LabelledBox(item.box_xyxy_abs, label, self.tree.colour(item.shown_id))
        colour = colour_of_number(item.track_id)
        return LabelledBox(item.box_xyxy_abs, f"#{item.track_id} {label}", colour)

    def selected(self, result: Mapping[str, Any]) -> list[tuple[int, float]]:
        """The categories that the image selected, with their scores in 0..1, best first."""
        if "selected_scores" not in result:
            return []
        ids = result["selected_vocab_ids"].tolist()
        return list(zip(ids, result["selected_scores"].tolist(), strict=True))

    def with_panel(self, picture: np.ndarray, result: Mapping[str, Any]) -> np.ndarray:
        """A drawn image (RGB) next to the categories that it selected."""
        rows = [
            (self.vocabulary.names[vocab_id], score, self.tree.colour(vocab_id))
            for vocab_id, score in self.selected(result)
        ]
        title = f"{len(rows)} of {len(self.vocabulary):,} categories selected"
        panel = draw_category_panel(picture.shape[0], rows, title=title)
        return np.concatenate([picture, panel], axis=1)

    def coco_rows(self, found: Sequence[Detection], image_id: int) -> list[dict[str, Any]]:
        """Detections in COCO's results format, with the dataset's ids of what is shown.

        What is followed through a video has its ``track_id`` besides.
        """
        rows = []
        for item in found:
            x0, y0, x1, y1 = (round(value, 2) for value in item.box_xyxy_abs)
            rows.append(
                {
                    "image_id": image_id,
                    "category_id": self.vocabulary.dataset_ids[item.shown_id],
                    "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
                    "score": round(item.score, 5),
                }
            )
            if item.track_id is not None:
                rows[-1]["track_id"] = item.track_id
        return rows


def _once_per_object(found: Sequence[Detection], iou: float) -> list[Detection]:
    """Of boxes of one name with an IoU of ``iou`` or more the best one alone."""
    boxes = torch.tensor([item.box_xyxy_abs for item in found]).reshape(-1, 4)
    overlaps = box_iou(boxes, boxes) >= iou
    kept: list[int] = []
    for place, item in enumerate(found):
        names = {found[other].shown_id for other in kept if overlaps[place, other]}
        if item.shown_id not in names:
            kept.append(place)
    return [found[place] for place in kept]
