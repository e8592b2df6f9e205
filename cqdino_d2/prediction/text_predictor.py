"""Prediction by words."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.catalog import Metadata

from ..detector import GroundingDINO
from ..structures import ClassRequest, TextPrompt, flat_vocabulary
from ..text import PromptTokenizer, Wanted, wanted_prompts
from .image_predictor import ImagePredictor
from .labels import labelled

Prompt: TypeAlias = str | TextPrompt | Sequence[str | Sequence[str]]


class TextPredictor(ImagePredictor):
    """An `ImagePredictor` that is prompted with words.

    A prompt is a caption ("a cat. a red ball."), names (some of which may be lists of synonyms, as
    many as you like) or a `TextPrompt` with its own spans. Found ``pred_classes`` are places in the
    prompt, and ``phrases`` its words there, never merged or cut.

    Args:
        cfg: see `ImagePredictor`; a prompt in it is what is looked for where no other is given.
        one_per_query: whether a box has its best name alone.
        nms_threshold: see `ImagePredictor`.

    Attributes:
        vocabulary: what is looked for where no prompt is given.

    Raises:
        ValueError: a model that reads no words.
    """

    def __init__(
        self, cfg: CfgNode, *, one_per_query: bool = True, nms_threshold: float | None = None
    ) -> None:
        super().__init__(cfg, nms_threshold=nms_threshold)
        if not isinstance(self.model, GroundingDINO):
            raise ValueError(
                f"{cfg.MODEL.META_ARCHITECTURE} reads no words: use CategoryPredictor, whose `ask` "
                "takes names"
            )
        self.model.post_processor.one_per_query = one_per_query

    @property
    def tokenizer(self) -> PromptTokenizer:
        """Reads prompts as the model does."""
        return self.model.categories.tokenizer

    def __call__(self, original_image: np.ndarray, prompt: Prompt | None = None) -> dict[str, Any]:
        """What the model finds in a BGR image: see `batch`."""
        return self.batch([original_image], None if prompt is None else [prompt])[0]

    def batch(
        self, images: Sequence[np.ndarray], prompts: Sequence[Prompt] | None = None
    ) -> list[dict[str, Any]]:
        """What the model finds in each of several BGR images, of any sizes.

        Args:
            images: as `ImagePredictor.batch` takes them.
            prompts: one for each image; None looks for what `ask` or the config said.

        Returns:
            Per image "instances" with ``pred_boxes``, ``scores``, ``pred_classes`` and ``phrases``,
            best first.

        Raises:
            TypeError, ValueError: no such images or prompts, or no prompt at all.
        """
        if prompts is None:
            if self.request is None and self.model.prompt is None:
                raise ValueError('say what to look for: predictor(image, "a cat. a red ball.")')
            return super().batch(images)
        if isinstance(prompts, (str, TextPrompt)) or len(prompts) != len(images):
            raise ValueError(f"{len(images)} images need a prompt each, got {prompts!r}")
        wanted = [wanted_prompts(prompt, self.tokenizer) for prompt in prompts]
        if any(len(one.prompts) > 1 for one in wanted):
            pairs = zip(images, wanted, strict=True)
            return [self._asking(one).batch([image])[0] for image, one in pairs]
        inputs = self.inputs(images)
        for item, one in zip(inputs, wanted, strict=True):
            item["prompt"] = one.prompts[0]
        return [
            labelled(result, one.names, nms_threshold=self.nms_threshold)
            for result, one in zip(self.run(inputs), wanted, strict=True)
        ]

    def ask(self, wanted: Prompt, *, negatives: Sequence[str] = ()) -> TextPredictor:
        """A predictor for one prompt, whose text side is computed once and kept.

        Names beyond what a prompt holds are looked for in further passes over the same maps of an
        image. The predictor shares the weights; ask again where these change.

        Args:
            wanted: what to look for.
            negatives: names that may win a box and are then left out: they stand in every pass.

        Raises:
            TypeError, ValueError: see `wanted_prompts`.
        """
        return self._asking(wanted_prompts(wanted, self.tokenizer, negatives=negatives))

    def _asking(self, wanted: Wanted) -> TextPredictor:
        other = copy.copy(self)
        num = len(wanted.names)
        other.dropped = tuple(range(num - wanted.num_negatives, num))
        with torch.no_grad():
            passes = self.model.read_prompts(wanted.prompts)
        other.request = ClassRequest(passes=passes, negatives=other.dropped)
        other.vocabulary = flat_vocabulary(wanted.names)
        other.metadata = Metadata(name="asked", thing_classes=list(wanted.names))
        return other
