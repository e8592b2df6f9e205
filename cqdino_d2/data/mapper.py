"""From a record of the data set to the input of the detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances

from .images import read_image
from .seeding import seeded_generators


class CategoryDatasetMapper:
    """Reads and augments the image of a record and makes its targets.

    Args:
        augmentations: Detectron2 augmentations in the order in which they are applied.
        image_format: 'RGB' (what the detector expects) or 'BGR'.
        is_train: whether targets are made; crowd boxes are left out of them.
        min_box_size: boxes whose width or height after augmentation is not larger than this, in
            pixels, are dropped.
    """

    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation],
        image_format: str = "RGB",
        is_train: bool = True,
        min_box_size: float = 1e-3,
    ) -> None:
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be 'RGB' or 'BGR', got {image_format!r}")
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.is_train = is_train
        self.min_box_size = min_box_size

    def __call__(
        self, record: Mapping[str, Any], rng_seed: int | Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Maps one record; the record itself is not changed.

        Args:
            record: in Detectron2's format; 'annotations' may be missing.
            rng_seed: if given, the augmentation depends on it alone.

        Returns:
            'image' (3, H, W) uint8; 'height' and 'width' of the original image; the record's
            other fields without its annotations; in training 'instances' with gt_boxes
            (XYXY_ABS, in the augmented image) and gt_classes (int64 ``vocab_id``). An image
            without boxes has empty instances.

        Raises:
            FileNotFoundError: the image is missing.
            OSError: the image cannot be read; names file and image id.
            ValueError: the image has another size than its record says.
        """
        if rng_seed is None:
            return self._map(record)
        with seeded_generators(rng_seed):
            return self._map(record)

    def _map(self, record: Mapping[str, Any]) -> dict[str, Any]:
        result = {key: value for key, value in record.items() if key != "annotations"}
        image = read_image(record["file_name"], self.image_format, record.get("image_id"))
        detection_utils.check_image_size(result, image)
        annotations = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
        boxes_xyxy = np.asarray(
            [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations],
            dtype=np.float64,
        ).reshape(-1, 4)
        augmented = T.AugInput(image, boxes=boxes_xyxy)
        self.augmentations(augmented)
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        result["image"] = torch.from_numpy(pixels)
        if self.is_train:
            vocab_ids = np.asarray([a["category_id"] for a in annotations], dtype=np.int64)
            result["instances"] = self._targets(augmented.boxes, vocab_ids, pixels.shape[1:])
        return result

    def _targets(
        self, boxes_xyxy: np.ndarray, vocab_ids: np.ndarray, image_size: tuple[int, int]
    ) -> Instances:
        """Clips (N, 4) boxes to the image and drops those of which nothing is left."""
        height, width = image_size
        limits = np.asarray([width, height, width, height], dtype=np.float64)
        boxes_xyxy = np.clip(boxes_xyxy, 0.0, limits)
        kept = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] > self.min_box_size).all(axis=1)
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.as_tensor(boxes_xyxy[kept], dtype=torch.float32))
        instances.gt_classes = torch.as_tensor(vocab_ids[kept], dtype=torch.int64)
        return instances
