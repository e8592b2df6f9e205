"""The detector as a function of one image, without anything that cannot leave Python."""

from __future__ import annotations

import copy

import torch
from detectron2.structures import ImageList
from torch import Tensor, nn

from ..detector import CQDINO


class ExportableDetector(nn.Module):
    """A trained detector with a fixed vocabulary for one image at a time.

    What depends on the vocabulary alone (category queries, their relation and their projection in
    the first layer of the selection) is computed here and becomes a constant.

    Args:
        model: is copied; it computes in float32, without autocast.

    Raises:
        ValueError: something else than a `CQDINO`, or one that selects categories at random.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, CQDINO):
            raise ValueError(
                f"only the detector CQDINO can be exported, got {type(model).__name__}, which "
                "predicts no boxes"
            )
        if not model.selection.is_deterministic:
            raise ValueError(
                "a selection at random is no function of the image and cannot be exported"
            )
        model = copy.deepcopy(model).float().eval().requires_grad_(False)
        model.autocast_dtype = None
        self.model = model.with_fixed_queries()

    @property
    def num_detections(self) -> int:
        """N, the number of detections of every image."""
        model = self.model
        slots = model.num_selected or len(model.class_queries().features)
        return min(model.post_processor.num_detections, model.query_selection.num_queries * slots)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detects.

        Args:
            image: (3, H, W) float32, RGB in 0..255, of the size the model is to see.

        Returns:
            (N, 4) boxes xyxy in the image's pixels, (N,) scores in 0..1, best first, and (N,)
            int64 vocab_ids. Where the vocabulary is smaller than K, slots without a category have
            the score 0 and the vocab_id -1.
        """
        model, (height, width) = self.model, image.shape[-2:]
        normalised = ((image - model.pixel_mean) / model.pixel_std)[None]
        found = model.run(ImageList(normalised, [(height, width)]))
        scores, boxes, slot_ids = model.post_processor.best_pairs(
            found.output.logits[-1, 0].sigmoid(), found.output.boxes_cxcywh_norm[-1, 0]
        )
        scale = torch.stack([image.new_ones(()) * side for side in (width, height)]).repeat(2)
        return boxes.clamp(0, 1) * scale, scores, found.slots.vocab_ids[0][slot_ids]
