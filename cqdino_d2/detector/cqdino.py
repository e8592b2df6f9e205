"""CQ-DINO (arXiv 2503.18430): detection among the categories that the image itself selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from torch import Tensor, nn

from ..layers import xyxy_to_cxcywh
from ..structures import ImageTargets
from .from_cfg import modules_from_cfg

_AUTOCAST_DTYPES = {None: None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@META_ARCH_REGISTRY.register()
class CQDINO(nn.Module):
    """The whole detector; every stage is injected.

    Args:
        backbone: images -> named feature maps, from fine to coarse.
        neck: feature maps -> L maps of C channels.
        tokenizer: L maps -> `ImageTokens`.
        categories: () -> category queries (V, H).
        selection: last backbone map and category queries -> `SelectedCategories`.
        encoder: tokens and categories -> both, fused.
        query_selection: tokens and categories -> `Proposals`.
        denoising: targets and categories -> `DenoisingGroup`; None trains without.
        decoder: all of these -> `DecoderOutput`.
        criterion: -> weighted losses by name.
        post_processor: -> `Instances` per image.
        pixel_mean, pixel_std: (3,) of RGB values in 0..255.
        autocast_dtype: "bfloat16" or "float16" runs backbone and neck (only these) in that type.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        tokenizer: nn.Module,
        categories: nn.Module,
        selection: nn.Module,
        encoder: nn.Module,
        query_selection: nn.Module,
        denoising: nn.Module | None,
        decoder: nn.Module,
        criterion: nn.Module,
        post_processor: nn.Module,
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
        autocast_dtype: str | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.tokenizer = backbone, neck, tokenizer
        self.categories, self.selection = categories, selection
        self.encoder, self.query_selection = encoder, query_selection
        self.denoising, self.decoder = denoising, decoder
        self.criterion, self.post_processor = criterion, post_processor
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), False)
        if autocast_dtype not in _AUTOCAST_DTYPES:
            raise ValueError(
                f"autocast_dtype must be in {list(_AUTOCAST_DTYPES)}, got {autocast_dtype!r}"
            )
        self.autocast_dtype = _AUTOCAST_DTYPES[autocast_dtype]

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """For `DefaultPredictor`: the arguments come from ``cfg.MODEL.CQDINO``."""
        return modules_from_cfg(cfg)

    def forward(
        self, batched_inputs: Sequence[Mapping[str, Any]]
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Detects, or in training computes the losses.

        Args:
            batched_inputs: Detectron2's dicts with "image" (3, H, W) RGB in 0..255, in training
                "instances" with ``gt_boxes`` and ``gt_classes`` (vocab_ids), else optionally
                "height" and "width" of the wanted output.

        Returns:
            In training the weighted losses by name. Else per image "instances" (``pred_boxes``,
            ``scores``, ``pred_classes`` as vocab_ids) and "selected_vocab_ids" (up to K,).
        """
        images = self.preprocess(batched_inputs)
        targets = self.prepare_targets(batched_inputs) if self.training else None

        maps, levels = self.extract_maps(images)
        tokens = self.tokenizer(levels, images.image_sizes, images.tensor.shape[-2:])
        categories = self.selection(maps[-1], self.categories(), targets)
        tokens, categories = self.encoder(tokens, categories)
        proposals = self.query_selection(tokens, categories)
        denoising = (
            self.denoising(targets, categories) if self.training and self.denoising else None
        )
        output = self.decoder(tokens, categories, proposals, denoising)

        if self.training:
            return self.criterion(output, proposals, categories, targets, denoising)
        return self.post_processor(output, categories, images.image_sizes, batched_inputs)

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

    def extract_maps(self, images: ImageList) -> tuple[list[Tensor], list[Tensor]]:
        """Backbone maps (float32) and the neck's L maps."""
        autocast = nullcontext()
        if self.autocast_dtype is not None:
            autocast = torch.autocast(images.tensor.device.type, self.autocast_dtype)
        with autocast:
            maps = list(self.backbone(images.tensor).values())
            levels = self.neck(maps)
        return [x.float() for x in maps], [x.float() for x in levels]
