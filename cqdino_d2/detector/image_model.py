"""What the detector and the tagger share: images in, targets in, backbone maps out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.structures import ImageList
from torch import nn

from ..layers import xyxy_to_cxcywh
from ..structures import ImageTargets

_AUTOCAST_DTYPES = {None: None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ImageModel(nn.Module):
    """A backbone with the preparation of its images and targets.

    Args:
        backbone: images -> named feature maps, from fine to coarse.
        pixel_mean, pixel_std: (3,) of RGB values in 0..255.
        autocast_dtype: "bfloat16" or "float16" runs the convolutional part in that type.

    Raises:
        ValueError: another autocast type.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        autocast_dtype: str | None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), False)
        if autocast_dtype not in _AUTOCAST_DTYPES:
            raise ValueError(
                f"autocast_dtype must be in {list(_AUTOCAST_DTYPES)}, got {autocast_dtype!r}"
            )
        self.autocast_dtype = _AUTOCAST_DTYPES[autocast_dtype]

    def preprocess(self, batched_inputs: Sequence[Mapping[str, Any]]) -> ImageList:
        """Normalises the images and pads them at the right and bottom to the largest."""
        device = self.pixel_mean.device
        images = [
            (x["image"].to(device).float() - self.pixel_mean) / self.pixel_std
            for x in batched_inputs
        ]
        return ImageList.from_tensors(images)

    def prepare_targets(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[ImageTargets]:
        """Boxes relative to the unpadded image, on the model's device."""
        targets = []
        for item in batched_inputs:
            instances = item["instances"].to(self.pixel_mean.device)
            height, width = instances.image_size
            boxes_xyxy_abs = instances.gt_boxes.tensor
            boxes = boxes_xyxy_abs / boxes_xyxy_abs.new_tensor([width, height, width, height])
            targets.append(
                ImageTargets(xyxy_to_cxcywh(boxes), instances.gt_classes, (height, width))
            )
        return targets

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of backbone and neck."""
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.pixel_mean.device.type, self.autocast_dtype)
