"""From a record of the data set to the input of the detector."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances

from ..files.images import read_image
from ..structures import TextPrompt
from .mosaic import compose_mosaic
from .seeding import seeded_generators

logger = logging.getLogger(__name__)


def _boxes_xyxy(annotations: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(N, 4) float64 boxes, whatever their modes."""
    boxes = np.asarray([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
    modes = np.asarray([a["bbox_mode"] for a in annotations], dtype=np.int64)
    for mode in np.unique(modes):
        of_mode = modes == mode
        boxes[of_mode] = BoxMode.convert(boxes[of_mode], BoxMode(mode), BoxMode.XYXY_ABS)
    return boxes


class PromptSource(Protocol):
    """Says what a training image is asked for: `TrainingPrompts`."""

    def __call__(
        self, records: Sequence[Mapping[str, Any]], instances: Instances
    ) -> tuple[TextPrompt, Instances]:
        """The prompt of an image of these records, and the boxes that it names."""


class CategoryDatasetMapper:
    """Reads and augments the image of a record and makes its targets.

    Args:
        augmentations: Detectron2 augmentations in the order in which they are applied.
        image_format: 'RGB' (what the detector expects) or 'BGR'.
        is_train: whether targets are made; crowd boxes are left out of them.
        min_box_size: boxes whose width or height after augmentation is not larger than this, in
            pixels, are dropped.
        allow_truncated: whether files that are cut short are read as far as they go, with a
            warning, instead of ending the run.
        mosaic_size: side in pixels of the square that four images share, where the loader asks
            for a mosaic; the augmentations follow.
        prompts: makes the prompt of a training image, from the boxes that the augmentation left;
            None for detectors that read no words.
    """

    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation],
        image_format: str = "RGB",
        is_train: bool = True,
        min_box_size: float = 1e-3,
        allow_truncated: bool = True,
        mosaic_size: int = 1024,
        prompts: PromptSource | None = None,
    ) -> None:
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be 'RGB' or 'BGR', got {image_format!r}")
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.is_train = is_train
        self.min_box_size = min_box_size
        self.allow_truncated = allow_truncated
        self.mosaic_size = mosaic_size
        self.prompts = prompts

    def __call__(
        self,
        record: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        rng_seed: int | Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Maps one record, or four that become one image; the records are not changed.

        Args:
            record: in Detectron2's format; 'annotations' may be missing.
            rng_seed: if given, the augmentation depends on it alone.

        Returns:
            'image' (3, H, W) uint8; 'height' and 'width' of the original image (of a mosaic: its
            side); the record's other fields without its annotations (of a mosaic: of the first,
            and 'mosaic_image_ids' of all four); in training 'instances' with gt_boxes (XYXY_ABS,
            in the augmented image) and gt_classes (int64 ``vocab_id``; a box with several
            categories is there once for each), and 'dropped_boxes': how many the augmentation
            left nothing of; with prompts 'prompt', and 'lost_boxes': how many more the caption
            had no room for. An image without boxes has empty instances.

        Raises:
            FileNotFoundError: the image is missing.
            OSError: the image cannot be read; names file and image id.
        """
        if rng_seed is None:
            return self._map(record)
        with seeded_generators(rng_seed):
            return self._map(record)

    def _map(self, record: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if isinstance(record, Mapping):
            image, boxes_xyxy, vocab_ids = self._read(record)
            result = {key: value for key, value in record.items() if key != "annotations"}
        else:
            image, boxes_xyxy, vocab_ids = self._read_mosaic(record)
            result = {key: value for key, value in record[0].items() if key != "annotations"}
            result["mosaic_image_ids"] = [one.get("image_id") for one in record]
        result["height"], result["width"] = image.shape[:2]
        augmented = T.AugInput(image, boxes=boxes_xyxy)
        self.augmentations(augmented)
        pixels = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        result["image"] = torch.from_numpy(pixels)
        if self.is_train:
            instances = self._targets(augmented.boxes, vocab_ids, pixels.shape[1:])
            result["dropped_boxes"] = len(vocab_ids) - len(instances)
            if self.prompts is not None:
                records = [record] if isinstance(record, Mapping) else record
                left = len(instances)
                result["prompt"], instances = self.prompts(records, instances)
                result["lost_boxes"] = left - len(instances)
            result["instances"] = instances
        return result

    def _read(self, record: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(H, W, 3) image, (N, 4) boxes without crowd, (N,) vocab_ids."""
        size = (record["height"], record["width"]) if "height" in record else None
        image = read_image(
            record["file_name"],
            self.image_format,
            record.get("image_id"),
            size=size,
            allow_truncated=self.allow_truncated,
        )
        if size is not None and image.shape[:2] != tuple(size):
            logger.warning(
                "image %s: %s is %d x %d, its annotations say %d x %d: the image is right",
                record.get("image_id"),
                record["file_name"],
                *(*image.shape[1::-1], *size[::-1]),
            )
        annotations = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
        vocab_ids = np.asarray([a["category_id"] for a in annotations], dtype=np.int64)
        return image, _boxes_xyxy(annotations), vocab_ids

    def _read_mosaic(
        self, records: Sequence[Mapping[str, Any]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images, boxes_xyxy, vocab_ids = zip(*map(self._read, records), strict=True)
        canvas, all_boxes = compose_mosaic(images, boxes_xyxy, self.mosaic_size)
        return canvas, all_boxes, np.concatenate(vocab_ids)

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
