"""Stage 1 of CQ-DINO: which categories are in the image, before there are any boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor

from ..layers import accelerate_for_cpu
from ..structures import ClassRequest
from ..structures.stages import (
    Backbone,
    CategoryCriterion,
    CategorySelector,
    CategorySource,
    TrainsScoresAlone,
)
from .from_cfg import modules_from_cfg
from .image_model import ImageModel, in_inference_dtype
from .post_processing import check_finite


@META_ARCH_REGISTRY.register()
class CategoryTagger(ImageModel):
    """Backbone, category queries and selection as a multi-label tagger (paper, section 3.2).

    Its parts bear the names of the detector's, so that a training of `CQDINO` can start from its
    checkpoint.

    Args:
        backbone: images -> named feature maps, from fine to coarse.
        categories: request -> class queries.
        selection: last backbone map and class queries -> class slots with scores. What makes the
            features of its slots belongs to the detector and is not trained here.
        category_loss: scores of the vocabulary and targets -> losses by name.
        pixel_mean, pixel_std: (3,) of RGB values in 0..255.
        autocast_dtype: "bfloat16" or "float16" runs the backbone (only this) in that type,
            "auto" in bfloat16 where the processor is faster in it; see `layers.precision`.
        inference_dtype: the same for the whole model in inference: faster, less exact.
    """

    TRAINING_PARTS: ClassVar = ("category_loss",)

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        categories: CategorySource,
        selection: CategorySelector,
        category_loss: CategoryCriterion,
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
        autocast_dtype: str | None = "auto",
        inference_dtype: str | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            categories=categories,
            selection=selection,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            autocast_dtype=autocast_dtype,
            inference_dtype=inference_dtype,
        )
        self.category_loss = category_loss
        if isinstance(selection, TrainsScoresAlone):
            selection.train_scores_alone()
        accelerate_for_cpu(self)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """For `DefaultPredictor`: the arguments come from ``cfg.MODEL.CQDINO``."""
        return modules_from_cfg(cfg)

    @in_inference_dtype
    def forward(
        self, batched_inputs: Sequence[Mapping[str, Any]], request: ClassRequest | None = None
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Tags, or in training computes the loss.

        Args:
            batched_inputs: Detectron2's dicts as `CQDINO` takes them.
            request: tags among its categories only; not in training.

        Returns:
            In training ``loss_category`` (and with a cascade ``loss_category_auxiliary``). Else per
            image "instances" without boxes: ``pred_classes``, the up to K categories that it
            selects, best first, and ``scores`` in 0..1; "selected_vocab_ids" and
            "selected_scores", the same.

        Raises:
            ValueError: scores that are NaN.
        """
        images = self.preprocess(batched_inputs)
        targets = self.prepare_targets(batched_inputs) if self.training else None
        with self.autocast():
            last_map = list(self.backbone(images.tensor).values())[-1]
        slots = self.selection(last_map.float(), self.class_queries(request), targets, request)
        if self.training:
            return self.category_loss(slots.scores, targets)
        results = []
        for image, size in enumerate(images.image_sizes):
            vocab_ids = slots.vocab_ids[image][slots.valid[image]]
            scores = slots.selection_scores(image)
            check_finite(image, scores)
            results.append(
                {
                    "instances": Instances(size, pred_classes=vocab_ids, scores=scores),
                    "selected_vocab_ids": vocab_ids,
                    "selected_scores": scores,
                }
            )
        return results
