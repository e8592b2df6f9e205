"""From the decoder's output to Detectron2 instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ..layers import cxcywh_to_xyxy
from ..structures import ClassSlots, DecoderOutput


class PostProcessor(nn.Module):
    """Takes the best of all query-category pairs; no NMS, no threshold.

    Where several slots stand for one category, its score is the mean of theirs.

    Args:
        num_detections: how many per image (300 in the paper).
        one_per_query: whether a query gives its best category alone. The released models give
            others of the same box besides, as average precision rewards it.
    """

    def __init__(self, *, num_detections: int = 300, one_per_query: bool = False) -> None:
        super().__init__()
        self.num_detections, self.one_per_query = num_detections, one_per_query

    def forward(
        self,
        output: DecoderOutput,
        slots: ClassSlots,
        image_sizes: Sequence[tuple[int, int]],
        output_sizes: Sequence[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """From the last layer's predictions to detections.

        Args:
            output: of the decoder.
            slots: that its logits are about.
            image_sizes: unpadded (height, width) of each image as the model sees it, in pixels.
            output_sizes: (height, width) that its boxes are wanted in.

        Returns:
            Per image "instances" in the wanted size, best first; where slots are categories
            "selected_vocab_ids", those of the slots, and where something was selected by score
            "selected_scores" in 0..1, falling.

        Raises:
            ValueError: scores or boxes that are NaN or infinite.
        """
        results = []
        for image, sizes in enumerate(zip(image_sizes, output_sizes, strict=True)):
            vocab_ids, scores = slots.pool(output.logits[-1, image].sigmoid(), image)
            best = self.best_pairs(scores, output.boxes_cxcywh_norm[-1, image])
            check_finite(image, *best[:2])
            result: dict[str, Any] = {"instances": _instances(*best, vocab_ids, *sizes)}
            if slots.phrases is None:
                result["selected_vocab_ids"] = vocab_ids
            if slots.scores is not None:
                result["selected_scores"] = slots.selection_scores(image)
            results.append(result)
        return results

    def best_pairs(
        self, scores: Tensor, boxes_cxcywh_norm: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The N best pairs of a query and a category, at most `num_detections`.

        Args:
            scores: (Q, G) of one image.
            boxes_cxcywh_norm: (Q, 4).

        Returns:
            (N,) scores, falling, (N, 4) boxes xyxy relative to the image, and (N,) int64 columns
            of the scores.
        """
        if self.one_per_query:
            scores, columns = scores.max(dim=1)
            best, query_ids = scores.topk(min(self.num_detections, len(scores)))
            return best, cxcywh_to_xyxy(boxes_cxcywh_norm[query_ids]), columns[query_ids]
        num_pairs, num_categories = scores.numel(), scores.shape[1]
        # neither min() nor %: of symbols a tracer makes a symbol, and ONNX has no such remainder
        count = self.num_detections if num_pairs >= self.num_detections else num_pairs
        best, pair_ids = scores.flatten().topk(count)
        query_ids = pair_ids // num_categories
        boxes = cxcywh_to_xyxy(boxes_cxcywh_norm[query_ids])
        return best, boxes, pair_ids - query_ids * num_categories


def check_finite(image: int, *outputs: Tensor) -> None:
    """Refuses what NaN or infinite pixels or weights lead to.

    Args:
        image: its place in the batch.
        outputs: of the model, for this image.

    Raises:
        ValueError: a number that is not finite.
    """
    if not all(output.isfinite().all() for output in outputs):
        raise ValueError(
            f"the model's output for image {image} of the batch is NaN or infinite: so are pixels "
            "of it, or weights (as those of a training that diverged)"
        )


def _instances(
    scores: Tensor,
    boxes_xyxy_norm: Tensor,
    columns: Tensor,
    vocab_ids: Tensor,
    size: tuple[int, int],
    output_size: tuple[int, int],
) -> Instances:
    """Detections in the wanted size."""
    (height, width), (output_height, output_width) = size, output_size
    boxes = Boxes(boxes_xyxy_norm * boxes_xyxy_norm.new_tensor([width, height, width, height]))
    boxes.clip(size)
    boxes.scale(output_width / width, output_height / height)
    return Instances(output_size, pred_boxes=boxes, scores=scores, pred_classes=vocab_ids[columns])
