"""Stage 1 of CQ-DINO: which categories are in the image, before there are any boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor, nn

from ..structures import CategoryOffer
from .from_cfg import modules_from_cfg
from .image_model import ImageModel, in_inference_dtype


@META_ARCH_REGISTRY.register()
class CategoryTagger(ImageModel):
    """Backbone, category queries and selection as a multi-label tagger (paper, section 3.2).

    Its parts bear the names of the detector's, so that a training of `CQDINO` can start from its
    checkpoint.

    Args:
        backbone: images -> named feature maps, from fine to coarse.
        categories: () -> category queries (V, H).
        selection: last backbone map and category queries -> `SelectedCategories`. Its output
            projection belongs to the detector and is not trained here.
        category_loss: (B, V) logits and targets -> loss.
        pixel_mean, pixel_std: (3,) of RGB values in 0..255.
        autocast_dtype: "bfloat16" or "float16" runs the backbone (only this) in that type,
            "auto" in bfloat16 where the processor is faster in it; see `layers.precision`.
        inference_dtype: the same for the whole model in inference: faster, less exact.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        categories: nn.Module,
        selection: nn.Module,
        category_loss: nn.Module,
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
        self.categories, self.selection, self.category_loss = categories, selection, category_loss
        self.selection.output_projection.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """For `DefaultPredictor`: the arguments come from ``cfg.MODEL.CQDINO``."""
        return modules_from_cfg(cfg)

    @in_inference_dtype
    def forward(
        self, batched_inputs: Sequence[Mapping[str, Any]], offer: CategoryOffer | None = None
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Tags, or in training computes the loss.

        Args:
            batched_inputs: Detectron2's dicts as `CQDINO` takes them.
            offer: tags among these categories only; not in training.

        Returns:
            In training ``loss_category`` (and with a cascade ``loss_category_auxiliary``). Else per
            image "instances" without boxes: ``pred_classes``, the up to K categories that it
            selects, best first, and ``scores`` in 0..1; "selected_vocab_ids" and
            "selected_scores", the same.
        """
        images = self.preprocess(batched_inputs)
        targets = self.prepare_targets(batched_inputs) if self.training else None
        with self.autocast():
            last_map = list(self.backbone(images.tensor).values())[-1]
        selected = self.selection(last_map.float(), self.categories(), targets, offer)
        if self.training:
            return {
                f"loss_category{suffix}": self.category_loss(logits, targets)
                for suffix, logits in selected.trained_logits().items()
            }
        results = []
        for image, size in enumerate(images.image_sizes):
            vocab_ids = selected.vocab_ids[image][selected.valid[image]]
            scores = selected.selection_scores(image)
            results.append(
                {
                    "instances": Instances(size, pred_classes=vocab_ids, scores=scores),
                    "selected_vocab_ids": vocab_ids,
                    "selected_scores": scores,
                }
            )
        return results
