"""CQ-DINO (arXiv 2503.18430): detection among the categories that the image itself selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList
from torch import Tensor

from ..layers import accelerate_for_cpu
from ..structures import (
    ClassRequest,
    Detected,
    ImageTargets,
    ImageTokens,
)
from ..structures.stages import (
    Backbone,
    BoxDecoder,
    CategorySelector,
    CategorySource,
    Criterion,
    Denoiser,
    Encoder,
    LearnsFromTeacher,
    Neck,
    PostProcess,
    QuerySelector,
    Teacher,
    Tokenizer,
)
from .from_cfg import modules_from_cfg
from .image_model import ImageModel, in_inference_dtype, output_sizes


@META_ARCH_REGISTRY.register()
class CQDINO(ImageModel):
    """The whole detector; every stage is injected and keeps its contract of `structures.stages`.

    Args:
        backbone: images -> named feature maps, from fine to coarse.
        neck: feature maps -> L maps of C channels.
        tokenizer: L maps -> tokens.
        categories: request -> class queries.
        selection: last backbone map and class queries -> class slots.
        encoder: tokens and slots -> both, fused.
        query_selection: tokens and slots -> proposals.
        denoising: targets and slots -> denoising group; None trains without.
        decoder: all of these -> predictions of every layer.
        criterion: -> weighted losses by name.
        post_processor: -> `Instances` per image.
        teacher: images and targets -> targets with what a frozen model sees in the boxes, in
            training; None: there is none.
        pixel_mean, pixel_std: (3,) of RGB values in 0..255.
        autocast_dtype: "bfloat16" or "float16" runs backbone and neck (only these) in that type,
            "auto" in bfloat16 where the processor is faster in it; see `layers.precision`.
        inference_dtype: the same for the whole model in inference: faster, less exact.
    """

    TRAINING_PARTS: ClassVar = ("denoising", "criterion", "teacher")

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck,
        tokenizer: Tokenizer,
        categories: CategorySource,
        selection: CategorySelector,
        encoder: Encoder,
        query_selection: QuerySelector,
        denoising: Denoiser | None,
        decoder: BoxDecoder,
        criterion: Criterion,
        post_processor: PostProcess,
        teacher: Teacher | None = None,
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
        self.neck, self.tokenizer = neck, tokenizer
        self.encoder, self.query_selection = encoder, query_selection
        self.denoising, self.decoder = denoising, decoder
        self.criterion, self.post_processor = criterion, post_processor
        self.teacher = teacher
        accelerate_for_cpu(self)

    def ready_for_training(self) -> None:
        """Makes the teacher and reads what the losses compare it with.

        Raises:
            ValueError, FileNotFoundError: teacher, files and vocabulary do not fit each other.
        """
        dim = None if self.teacher is None else self.teacher.embedding_dim()
        if isinstance(self.criterion, LearnsFromTeacher):
            self.criterion.check_teacher(dim)

    def training_weights(self) -> frozenset[str]:
        """Names of the criterion's, such as those of a `SemanticLoss`."""
        return frozenset(name for name in self.state_dict() if name.startswith("criterion."))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """For `DefaultPredictor`: the arguments come from ``cfg.MODEL.CQDINO``."""
        return modules_from_cfg(cfg)

    @in_inference_dtype
    def forward(
        self, batched_inputs: Sequence[Mapping[str, Any]], request: ClassRequest | None = None
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Detects, or in training computes the losses.

        Args:
            batched_inputs: Detectron2's dicts with "image" (3, H, W) RGB in 0..255, in training
                "instances" with ``gt_boxes`` and ``gt_classes`` (vocab_ids), else optionally
                "height" and "width" of the wanted output.
            request: what to detect, if not the model's own choice; not in training.

        Returns:
            In training the weighted losses by name. Else per image "instances" (``pred_boxes``,
            ``scores``, ``pred_classes`` as vocab_ids), "selected_vocab_ids" (up to K,) and, where a
            selection scores categories, their "selected_scores" in 0..1.
        """
        images = self.preprocess(batched_inputs)
        targets = self.prepare_targets(batched_inputs) if self.training else None
        if targets is not None and self.teacher is not None:
            targets = self.teacher(images.tensor, targets)
        found = self.run(images, targets, request)
        if self.training:
            return self.criterion(
                found.output, found.proposals, found.slots, targets, found.denoising
            )
        sizes = output_sizes(batched_inputs, images.image_sizes)
        return self.post_processor(found.output, found.slots, images.image_sizes, sizes)

    def run(
        self,
        images: ImageList,
        targets: Sequence[ImageTargets] | None = None,
        request: ClassRequest | None = None,
    ) -> Detected:
        """All stages from images to predictions.

        Args:
            images: normalised and padded, as `preprocess` makes them.
            targets: of each image, in training.
            request: see `forward`.
        """
        return self.find(self.read(images), targets, request)

    def read(self, images: ImageList) -> tuple[Tensor, ImageTokens]:
        """What does not depend on what is looked for: the last backbone map, and the tokens."""
        maps, levels = self.extract_maps(images)
        return maps[-1], self.tokenizer(levels, images.image_sizes, images.tensor.shape[-2:])

    def find(
        self,
        seen: tuple[Tensor, ImageTokens],
        targets: Sequence[ImageTargets] | None = None,
        request: ClassRequest | None = None,
    ) -> Detected:
        """The stages after `read`; its arguments are those of `run`."""
        last_map, tokens = seen
        selected = self.selection(last_map, self.class_queries(request), targets, request)
        tokens, slots = self.encoder(tokens, selected)
        proposals = self.query_selection(tokens, slots)
        denoising = self.denoising(targets, slots) if self.training and self.denoising else None
        output = self.decoder(tokens, slots, proposals, denoising)
        return Detected(selected, tokens, slots, proposals, denoising, output)

    def extract_maps(self, images: ImageList) -> tuple[list[Tensor], list[Tensor]]:
        """Backbone maps (float32) and the neck's L maps."""
        with self.autocast():
            maps = list(self.backbone(images.tensor).values())
            levels = self.neck(maps)
        return [x.float() for x in maps], [x.float() for x in levels]
