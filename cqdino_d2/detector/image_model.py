"""What the detector and the tagger share: images in, targets in, backbone maps out."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from detectron2.structures import ImageList
from torch import nn

from ..checkpoint import rename_before_loading
from ..layers import ParameterMemo, autocast, check_precision, xyxy_to_cxcywh
from ..structures import ClassQueries, ClassRequest, ImageTargets, ListedCategories
from ..structures.stages import (
    Backbone,
    CategorySelector,
    CategorySource,
    ConstantQueries,
    PreparesQueries,
)
from .fixed_queries import FixedQueries


class ImageModel(nn.Module):
    """A backbone and a selection of categories, with the preparation of images and targets.

    Class queries that follow from weights alone are computed once in inference and kept until a
    weight changes.

    Args:
        backbone: images -> named feature maps, from fine to coarse.
        categories: where the class queries come from.
        selection: what becomes a slot.
        pixel_mean, pixel_std: (3,) of RGB values in 0..255.
        autocast_dtype: the type of the convolutional part: "bfloat16", "float16", "auto" or None,
            as `layers.precision` explains them.
        inference_dtype: the same for the whole model in inference: faster, less exact.

    Raises:
        ValueError: another type.

    Attributes:
        TRAINING_PARTS: names of the parts that only training needs.
    """

    TRAINING_PARTS: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        backbone: Backbone,
        categories: CategorySource,
        selection: CategorySelector,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        autocast_dtype: str | None,
        inference_dtype: str | None,
    ) -> None:
        super().__init__()
        self.backbone, self.categories, self.selection = backbone, categories, selection
        self.kept_queries: ParameterMemo[ClassQueries] = ParameterMemo()
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), False)
        check_precision("autocast_dtype", autocast_dtype)
        check_precision("inference_dtype", inference_dtype)
        self.autocast_dtype, self.inference_dtype = autocast_dtype, inference_dtype
        self.register_load_state_dict_pre_hook(rename_before_loading)

    def preprocess(self, batched_inputs: Sequence[Mapping[str, Any]]) -> ImageList:
        """Normalises the images and pads them at the right and bottom to the largest."""
        device = self.pixel_mean.device
        images = [
            (x["image"].to(device).float() - self.pixel_mean) / self.pixel_std
            for x in batched_inputs
        ]
        return ImageList.from_tensors(images)

    def prepare_targets(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[ImageTargets]:
        """Boxes relative to the unpadded image, on the model's device.

        Raises:
            ValueError: an image without "instances".
        """
        targets = []
        for item in batched_inputs:
            if "instances" not in item:
                raise ValueError(
                    "the model is in training mode, in which an image needs 'instances': "
                    "model.eval() makes it predict"
                )
            instances = item["instances"].to(self.pixel_mean.device)
            height, width = instances.image_size
            boxes_xyxy_abs = instances.gt_boxes.tensor
            boxes = boxes_xyxy_abs / boxes_xyxy_abs.new_tensor([width, height, width, height])
            targets.append(
                ImageTargets(
                    xyxy_to_cxcywh(boxes),
                    instances.gt_classes,
                    (height, width),
                    listed=_listed(item, boxes.device),
                    image_level=bool(item.get("image_level", False)),
                )
            )
        return targets

    def class_queries(self, request: ClassRequest | None = None) -> ClassQueries:
        """The class queries, prepared for the selection; those of the request if it has any."""
        if request is not None and request.queries is not None:
            return request.queries
        if not isinstance(self.categories, ConstantQueries):
            return self.categories(request)
        parameters = list(self.categories.parameters())
        prepares = isinstance(self.selection, PreparesQueries)
        if prepares:
            parameters += self.selection.preparing_parameters()

        def compute() -> ClassQueries:
            queries = self.categories(request)
            return self.selection.prepare(queries) if prepares else queries

        return self.kept_queries.get(parameters, compute)

    @property
    def kept_bytes(self) -> int:
        """Memory of the class queries that are kept from image to image."""
        kept = self.kept_queries.value
        tensors = [] if kept is None else [kept.features, kept.projected]
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    @property
    def num_selected(self) -> int | None:
        """K, or None where the number of slots follows from the vocabulary or the request."""
        return self.selection.num_selected

    def with_fixed_queries(self, dtype: torch.dtype | None = None) -> ImageModel:
        """The model for inference alone, with its class queries in place of what makes them.

        What only training needs is left out, all other weights are shared.

        Args:
            dtype: keeps the queries in that type and unprepared; None keeps them as they are
                computed, and prepared.

        Raises:
            ValueError: the queries depend on the request.
        """
        if not isinstance(self.categories, ConstantQueries | FixedQueries):
            raise ValueError(
                f"the queries of {type(self.categories).__name__} depend on what is asked for, so "
                "that they cannot be kept alone"
            )
        with torch.no_grad():
            queries = self.eval().class_queries()
        other = copy.copy(self)
        other._modules = self._modules | dict.fromkeys(self.TRAINING_PARTS)
        other.categories = FixedQueries(queries, dtype)
        return other

    def compact(self, dtype: torch.dtype = torch.float16) -> ImageModel:
        """A model for inference alone that keeps nothing of a category but its query.

        The embeddings, what relates them, and what only training needs are left out; all other
        weights are shared. The selection projects the queries anew for every image, about 4% of
        its operations.

        Args:
            dtype: in which the queries are kept; the model computes in the type of its weights.

        Raises:
            ValueError: no floating-point type, or a model whose queries depend on the request.
        """
        if not dtype.is_floating_point:
            raise ValueError(f"queries are floating-point numbers, got {dtype}")
        return self.with_fixed_queries(dtype)

    def train(self, mode: bool = True) -> ImageModel:
        """Training forgets what was kept."""
        self.kept_queries.clear()
        return super().train(mode)

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of backbone and neck."""
        return autocast(self.autocast_dtype, self.pixel_mean.device.type)


def _listed(item: Mapping[str, Any], device: torch.device) -> ListedCategories | None:
    """What LVIS' lists tell of an image; None where the mapper does not carry them."""
    if "absent_vocab_ids" not in item:
        return None
    return ListedCategories(
        item["absent_vocab_ids"].to(device), item["unfinished_vocab_ids"].to(device)
    )


def output_sizes(
    batched_inputs: Sequence[Mapping[str, Any]], image_sizes: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """(height, width) that each image's boxes are wanted in; by default the model's own."""
    return [
        (int(item.get("height", height)), int(item.get("width", width)))
        for item, (height, width) in zip(batched_inputs, image_sizes, strict=True)
    ]


def in_inference_dtype(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the forward pass of an `ImageModel` follow its ``inference_dtype``."""

    @functools.wraps(forward)
    def wrapped(self: ImageModel, *args: Any, **kwargs: Any) -> Any:
        name = None if self.training else self.inference_dtype
        with autocast(name, self.pixel_mean.device.type):
            return forward(self, *args, **kwargs)

    return wrapped
