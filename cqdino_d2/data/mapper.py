"""From a record of the dataset to the input of the detector."""

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
from .category_lists import CategoryLists
from .mosaic import Mosaic, QuadrantMosaic
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
        mosaic: makes one image of four, where the loader asks for a mosaic: `QuadrantMosaic` (by
            default, of 1,024 pixels) or `CutMosaic`.
        prompts: makes the prompt of a training image, from the boxes that the augmentation left;
            None for detectors that read no words.
        category_lists: gives what a dataset tells of a training image besides its boxes; None
            where no loss wants to know.
    """

    def __init__(
        self,
        *,
        augmentations: Sequence[T.Augmentation],
        image_format: str = "RGB",
        is_train: bool = True,
        min_box_size: float = 1e-3,
        allow_truncated: bool = True,
        mosaic: Mosaic | None = None,
        prompts: PromptSource | None = None,
        category_lists: CategoryLists | None = None,
    ) -> None:
        if image_format not in ("RGB", "BGR"):
            raise ValueError(f"image_format must be 'RGB' or 'BGR', got {image_format!r}")
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format = image_format
        self.is_train = is_train
        self.min_box_size = min_box_size
        self.allow_truncated = allow_truncated
        self.mosaic = QuadrantMosaic() if mosaic is None else mosaic
        self.prompts = prompts
        self.category_lists = category_lists

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
            categories is there once for each), 'dropped_boxes': how many the augmentation left
            nothing of, and what ``category_lists`` gives; with prompts 'prompt', and 'lost_boxes':
            how many more the caption had no room for. An image without boxes has empty instances.

        Raises:
            FileNotFoundError: the image is missing.
            OSError: the image cannot be read; names file and image id.
        """
        if rng_seed is None:
            return self._map(record)
        with seeded_generators(rng_seed):
            return self._map(record)

    def _map(self, record: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        is_mosaic = not isinstance(record, Mapping)
        records = record if is_mosaic else [record]
        result = {key: value for key, value in records[0].items() if key != "annotations"}
        if is_mosaic:
            image, boxes_xyxy, vocab_ids = self._read_mosaic(records)
            result["mosaic_image_ids"] = [one.get("image_id") for one in records]
        else:
            image, boxes_xyxy, vocab_ids = self._read(record)
        result["height"], result["width"] = image.shape[:2]
        if not (is_mosaic and self.mosaic.augments_parts):
            image, boxes_xyxy = self._augmented(image, boxes_xyxy)
        result["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if self.is_train:
            instances = self._targets(boxes_xyxy, vocab_ids, image.shape[:2])
            result["dropped_boxes"] = len(vocab_ids) - len(instances)
            if self.category_lists is not None:
                result |= self.category_lists(records)
            if self.prompts is not None:
                left = len(instances)
                result["prompt"], instances = self.prompts(records, instances)
                result["lost_boxes"] = left - len(instances)
            result["instances"] = instances
        return result

    def _augmented(
        self, image: np.ndarray, boxes_xyxy: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The augmented image and its (N, 4) boxes, clipped to it."""
        augmented = T.AugInput(image, boxes=boxes_xyxy)
        self.augmentations(augmented)
        limits = np.asarray([*augmented.image.shape[1::-1]] * 2, dtype=np.float64)
        return augmented.image, np.clip(augmented.boxes, 0.0, limits)

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
        boxes_xyxy = _boxes_xyxy(annotations)
        if record.get("image_level"):  # whatever size the image was said to have
            boxes_xyxy[:] = 0, 0, image.shape[1], image.shape[0]
        return image, boxes_xyxy, vocab_ids

    def _read_mosaic(
        self, records: Sequence[Mapping[str, Any]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images, boxes_xyxy, vocab_ids = zip(*map(self._read, records), strict=True)
        if self.mosaic.augments_parts:
            parts = zip(images, boxes_xyxy, strict=True)
            images, boxes_xyxy = zip(*(self._augmented(*part) for part in parts), strict=True)
        # as Detectron2's augmentations, it draws from NumPy's global generator
        canvas, all_boxes = self.mosaic(images, boxes_xyxy, np.random)
        return canvas, all_boxes, np.concatenate(vocab_ids)

    def _targets(
        self, boxes_xyxy: np.ndarray, vocab_ids: np.ndarray, image_size: tuple[int, int]
    ) -> Instances:
        """(N, 4) boxes in an image of (height, width), without those of which nothing is left."""
        kept = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] > self.min_box_size).all(axis=1)
        instances = Instances(image_size)
        instances.gt_boxes = Boxes(torch.as_tensor(boxes_xyxy[kept], dtype=torch.float32))
        instances.gt_classes = torch.as_tensor(vocab_ids[kept], dtype=torch.int64)
        return instances
