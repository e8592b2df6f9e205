"""Grounding DINO (arXiv 2303.05499): CQ-DINO's stages, asked in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor

from ..structures import ClassRequest, TextPrompt
from .cqdino import CQDINO
from .image_model import in_inference_dtype, output_sizes


@META_ARCH_REGISTRY.register()
class GroundingDINO(CQDINO):
    """A `CQDINO` whose class slots are the tokens of prompts.

    An image is searched for what the request says, else for the prompt of its own input dict. A
    request's ``passes`` are looked for one after the other in every image, whose maps are computed
    once; the detections of all passes come together, best first.
    """

    @in_inference_dtype
    def forward(
        self, batched_inputs: Sequence[Mapping[str, Any]], request: ClassRequest | None = None
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Detects, or in training computes the losses.

        Args:
            batched_inputs: as `CQDINO.forward` takes them; "prompt" holds a `TextPrompt`, whose
                things are the classes of "instances" in training.
            request: prompts, one for each image, or passes for all of them.

        Returns:
            As `CQDINO.forward`; ``pred_classes`` are the vocab_ids of the prompts.

        Raises:
            ValueError: nothing says what to look for.
        """
        if self.training or request is None:
            request = prompts_of(batched_inputs)
        if not request.passes:
            return super().forward(batched_inputs, request)
        images = self.preprocess(batched_inputs)
        sizes = output_sizes(batched_inputs, images.image_sizes)
        seen = self.read(images)
        parts = []
        for prompt in request.passes:
            found = self.find(seen, None, ClassRequest(prompts=(prompt,) * len(images)))
            parts.append(self.post_processor(found.output, found.slots, images.image_sizes, sizes))
        return [joined([part[image] for part in parts]) for image in range(len(sizes))]


def prompts_of(batched_inputs: Sequence[Mapping[str, Any]]) -> ClassRequest:
    """A request for what each image's own prompt says.

    Raises:
        ValueError: an image without one.
    """
    prompts = tuple(item.get("prompt") for item in batched_inputs)
    for place, prompt in enumerate(prompts):
        if not isinstance(prompt, TextPrompt):
            raise ValueError(
                f"image {place} of {len(prompts)} has no prompt (a TextPrompt under 'prompt'), and "
                "no request says what to look for"
            )
    return ClassRequest(prompts=prompts)


def joined(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The detections of several passes over one image, best first."""
    instances = Instances.cat([result["instances"] for result in results])
    order = instances.scores.argsort(descending=True, stable=True)
    return {"instances": instances[order]}
