"""CQ-DINO (arXiv 2503.18430): detection among the categories that the image itself selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from torch import Tensor, nn

from ..structures import CategoryOffer
from .from_cfg import modules_from_cfg
from .image_model import ImageModel, in_inference_dtype


@META_ARCH_REGISTRY.register()
class CQDINO(ImageModel):
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
        autocast_dtype: "bfloat16" or "float16" runs backbone and neck (only these) in that type,
            "auto" in bfloat16 where the processor is faster in it; see `layers.precision`.
        inference_dtype: the same for the whole model in inference: faster, less exact.
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
        autocast_dtype: str | None = "auto",
        inference_dtype: str | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            autocast_dtype=autocast_dtype,
            inference_dtype=inference_dtype,
        )
        self.neck, self.tokenizer = neck, tokenizer
        self.categories, self.selection = categories, selection
        self.encoder, self.query_selection = encoder, query_selection
        self.denoising, self.decoder = denoising, decoder
        self.criterion, self.post_processor = criterion, post_processor

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """For `DefaultPredictor`: the arguments come from ``cfg.MODEL.CQDINO``."""
        return modules_from_cfg(cfg)

    @in_inference_dtype
    def forward(
        self, batched_inputs: Sequence[Mapping[str, Any]], offer: CategoryOffer | None = None
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Detects, or in training computes the losses.

        Args:
            batched_inputs: Detectron2's dicts with "image" (3, H, W) RGB in 0..255, in training
                "instances" with ``gt_boxes`` and ``gt_classes`` (vocab_ids), else optionally
                "height" and "width" of the wanted output.
            offer: detects among these categories only; not in training.

        Returns:
            In training the weighted losses by name. Else per image "instances" (``pred_boxes``,
            ``scores``, ``pred_classes`` as vocab_ids), "selected_vocab_ids" (up to K,) and their
            "selected_scores" in 0..1.
        """
        images = self.preprocess(batched_inputs)
        targets = self.prepare_targets(batched_inputs) if self.training else None

        maps, levels = self.extract_maps(images)
        tokens = self.tokenizer(levels, images.image_sizes, images.tensor.shape[-2:])
        categories = self.selection(maps[-1], self.categories(), targets, offer)
        tokens, categories = self.encoder(tokens, categories)
        proposals = self.query_selection(tokens, categories)
        denoising = (
            self.denoising(targets, categories) if self.training and self.denoising else None
        )
        output = self.decoder(tokens, categories, proposals, denoising)

        if self.training:
            return self.criterion(output, proposals, categories, targets, denoising)
        return self.post_processor(output, categories, images.image_sizes, batched_inputs)

    def extract_maps(self, images: ImageList) -> tuple[list[Tensor], list[Tensor]]:
        """Backbone maps (float32) and the neck's L maps."""
        with self.autocast():
            maps = list(self.backbone(images.tensor).values())
            levels = self.neck(maps)
        return [x.float() for x in maps], [x.float() for x in levels]
