"""What the detector and the tagger share: images in, targets in, backbone maps out."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from detectron2.structures import ImageList
from torch import nn

from ..layers import autocast, check_precision, xyxy_to_cxcywh
from ..structures import ImageTargets

_FOR_TRAINING = {"criterion", "category_loss", "denoising"}


class ImageModel(nn.Module):
    """A backbone with the preparation of its images and targets.

    Args:
        backbone: images -> named feature maps, from fine to coarse.
        pixel_mean, pixel_std: (3,) of RGB values in 0..255.
        autocast_dtype: the type of the convolutional part: "bfloat16", "float16", "auto" or None,
            as `layers.precision` explains them.
        inference_dtype: the same for the whole model in inference: faster, less exact.

    Raises:
        ValueError: another type.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        autocast_dtype: str | None,
        inference_dtype: str | None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), False)
        check_precision("autocast_dtype", autocast_dtype)
        check_precision("inference_dtype", inference_dtype)
        self.autocast_dtype, self.inference_dtype = autocast_dtype, inference_dtype

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

    def compact(self, dtype: torch.dtype = torch.float16) -> ImageModel:
        """A model for inference alone that keeps nothing of a category but its query.

        The embeddings, what relates them, and what only training needs are left out; all other
        weights are shared. The selection computes what it keeps otherwise for every image, about
        4% more operations of its.

        Args:
            dtype: in which the queries are kept; the model computes in the type of its weights.

        Raises:
            ValueError: no floating-point type, or a model that has no compact form.
        """
        if not dtype.is_floating_point:
            raise ValueError(f"queries are floating-point numbers, got {dtype}")
        if not (hasattr(self.categories, "compact") and hasattr(self.selection, "compact")):
            parts = [type(part).__name__ for part in (self.categories, self.selection)]
            raise ValueError(f"{parts[0]} with {parts[1]} cannot be made compact")
        other = copy.copy(self.eval())
        other._modules = self._modules | {
            "categories": self.categories.compact(dtype),
            "selection": self.selection.compact(),
            **dict.fromkeys(_FOR_TRAINING & self._modules.keys()),
        }
        return other

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of backbone and neck."""
        return autocast(self.autocast_dtype, self.pixel_mean.device.type)


def in_inference_dtype(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the forward pass of an `ImageModel` follow its ``inference_dtype``."""

    @functools.wraps(forward)
    def wrapped(self: ImageModel, *args: Any, **kwargs: Any) -> Any:
        name = None if self.training else self.inference_dtype
        with autocast(name, self.pixel_mean.device.type):
            return forward(self, *args, **kwargs)

    return wrapped
