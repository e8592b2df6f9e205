"""From the decoder's output to Detectron2 instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ..layers import cxcywh_to_xyxy
from ..structures import DecoderOutput, SelectedCategories


class PostProcessor(nn.Module):
    """Takes the best of all query-category pairs; no NMS, no threshold.

    One query may give several categories.

    Args:
        num_detections: how many per image (300 in the paper).
    """

    def __init__(self, *, num_detections: int = 300) -> None:
        super().__init__()
        self.num_detections = num_detections

    def forward(
        self,
        output: DecoderOutput,
        categories: SelectedCategories,
        image_sizes: Sequence[tuple[int, int]],
        batched_inputs: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """Per image: "instances" in the wanted output size, and what it selected (best first)."""
        results = []
        for image, size in enumerate(image_sizes):
            valid = categories.valid[image]
            vocab_ids = categories.vocab_ids[image][valid]
            instances = self._detect(
                output.logits[-1, image][:, valid],
                output.boxes_cxcywh_norm[-1, image],
                vocab_ids,
                size,
                _output_size(batched_inputs[image], size),
            )
            results.append(
                {
                    "instances": instances,
                    "selected_vocab_ids": vocab_ids,
                    "selected_scores": categories.selection_scores(image),
                }
            )
        return results

    def _detect(
        self,
        logits: Tensor,
        boxes_cxcywh_norm: Tensor,
        vocab_ids: Tensor,
        size: tuple[int, int],
        output_size: tuple[int, int],
    ) -> Instances:
        """(Q, K) logits and (Q, 4) boxes of one image -> instances, best first."""
        scores = logits.sigmoid().flatten()
        scores, pair_ids = scores.topk(min(self.num_detections, len(scores)))
        num_slots = logits.shape[1]
        boxes = cxcywh_to_xyxy(boxes_cxcywh_norm[pair_ids // num_slots])
        boxes = Boxes(boxes * boxes.new_tensor([size[1], size[0], size[1], size[0]]))
        boxes.clip(size)
        boxes.scale(output_size[1] / size[1], output_size[0] / size[0])
        return Instances(
            output_size,
            pred_boxes=boxes,
            scores=scores,
            pred_classes=vocab_ids[pair_ids % num_slots],
        )


def _output_size(item: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    return int(item.get("height", size[0])), int(item.get("width", size[1]))
