"""Detectors as functions of one image, without anything that cannot leave Python."""

from __future__ import annotations

import copy

import torch
from detectron2.structures import ImageList
from torch import Tensor, nn
from torch.export import Dim

from ..detector import CQDINO, GroundingDINO
from ..structures import ClassQueries, ClassRequest, Detected

Dims = dict[str, dict[int, Dim]]


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
                f"only the detectors CQDINO and GroundingDINO can be exported, got "
                f"{type(model).__name__}, which predicts no boxes"
            )
        if not model.selection.is_deterministic:
            raise ValueError(
                "a selection at random is no function of the image and cannot be exported"
            )
        model = copy.deepcopy(self._reduced(model)).float().eval().requires_grad_(False)
        model.autocast_dtype = None
        self.model = model

    @staticmethod
    def _reduced(model: CQDINO) -> nn.Module:
        """The model without what only training needs and without what makes its queries."""
        return model.with_fixed_queries()

    @property
    def num_detections(self) -> int:
        """N, the number of detections of every image."""
        model = self.model
        slots = model.num_selected or len(model.class_queries().features)
        return min(model.post_processor.num_detections, model.query_selection.num_queries * slots)

    def dynamic_dims(self) -> Dims:
        """Which dimensions of the inputs other than the image may change."""
        return {}

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detects.

        Args:
            image: (3, H, W) float32, RGB in 0..255, of the size the model is to see.

        Returns:
            (N, 4) boxes xyxy in the image's pixels, (N,) scores in 0..1, best first, and (N,)
            int64 vocab_ids. Where the vocabulary is smaller than K, slots without a category have
            the score 0 and the vocab_id -1.
        """
        found = self._run(image)
        scores, boxes, slot_ids = self._best(found.output.logits[-1, 0].sigmoid(), found)
        return _in_pixels(boxes, image), scores, found.slots.vocab_ids[0][slot_ids]

    def _run(self, image: Tensor, request: ClassRequest | None = None) -> Detected:
        model = self.model
        normalised = ((image - model.pixel_mean) / model.pixel_std)[None]
        height, width = image.shape[-2:]
        return model.run(ImageList(normalised, [(height, width)]), None, request)

    def _best(self, scores: Tensor, found: Detected) -> tuple[Tensor, ...]:
        boxes = found.output.boxes_cxcywh_norm[-1, 0]
        return self.model.post_processor.best_pairs(scores, boxes)


class ExportableTextDetector(ExportableDetector):
    """A trained `GroundingDINO` for one image and the text side of one prompt at a time.

    What it looks for is an input: other names need no other file.
    """

    @staticmethod
    def _reduced(model: CQDINO) -> nn.Module:
        other = copy.copy(model)
        other._modules = other._modules | dict.fromkeys((*model.TRAINING_PARTS, "categories"))
        return other

    @property
    def num_detections(self) -> int:
        """N, the number of detections of every image."""
        post, queries = self.model.post_processor, self.model.query_selection.num_queries
        return min(post.num_detections, queries) if post.one_per_query else post.num_detections

    def dynamic_dims(self) -> Dims:
        """Which dimensions of the inputs other than the image may change."""
        tokens = Dim("tokens", min=3, max=1 << 14)  # [CLS], a word, [SEP]
        names = Dim("names", min=least_names(self.model), max=1 << 14)
        return {
            "text_features": {0: tokens},
            "text_position": {0: tokens},
            "text_valid": {0: tokens},
            "text_visible": {0: tokens, 1: tokens},
            "phrases": {0: names, 1: Dim("synonyms", min=2, max=1 << 10), 2: tokens},
            "name_ids": {0: names},
        }

    def forward(
        self,
        image: Tensor,
        text_features: Tensor,
        text_position: Tensor,
        text_valid: Tensor,
        text_visible: Tensor,
        phrases: Tensor,
        name_ids: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Detects; `TextSide` makes all inputs but the image.

        Args:
            image: (3, H, W) float32, RGB in 0..255, of the size the model is to see.
            text_features: (T, C) of the prompt's tokens.
            text_position: (T, C) encoding of their places.
            text_valid: (T,) bool, False where a token is padding.
            text_visible: (T, T) bool, True where token i may look at token j.
            phrases: (G, M, T) bool, the tokens of each of up to M synonyms of G names.
            name_ids: (G,) int64, -1 for a row without a name.

        Returns:
            As of `ExportableDetector`, with name_ids in place of vocab_ids. Rows without a name
            have the score 0.
        """
        queries = ClassQueries(
            features=text_features[None],
            valid=text_valid[None],
            position=text_position[None],
            visible=text_visible[None],
        )
        found = self._run(image, ClassRequest(queries=queries))
        scores = name_scores(found.output.logits[-1, 0].sigmoid(), phrases & text_valid)
        best, boxes, columns = self._best(scores, found)
        return _in_pixels(boxes, image), best, name_ids[columns]


def exportable(model: nn.Module) -> ExportableDetector:
    """The form of a model that can be exported.

    Raises:
        ValueError: there is none.
    """
    kind = ExportableTextDetector if isinstance(model, GroundingDINO) else ExportableDetector
    return kind(model)


def least_names(model: GroundingDINO) -> int:
    """G at least, so that every image has N detections; tracers take nothing below 2."""
    return max(2, -(-model.post_processor.num_detections // model.query_selection.num_queries))


def name_scores(probabilities: Tensor, phrases: Tensor) -> Tensor:
    """(Q, T) of tokens and (G, M, T) bool -> (Q, G): as `ClassSlots.pool` does it.

    A synonym has the mean of its tokens, a name the best of its synonyms, 0 without any.
    """
    members = phrases.to(probabilities.dtype)
    counts = members.sum(dim=-1)
    sums = probabilities @ members.flatten(0, 1).T
    means = sums.unflatten(1, phrases.shape[:2]) / counts.clamp(min=1)
    return means.amax(dim=-1)


def _in_pixels(boxes_xyxy_norm: Tensor, image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    sides = (width, height, width, height)
    scale = torch.stack([image.new_ones(()) * side for side in sides])
    return boxes_xyxy_norm.clamp(0, 1) * scale
