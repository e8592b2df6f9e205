"""Grounding DINO (arXiv 2303.05499): CQ-DINO's stages, asked in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor

from ..layers import ParameterMemo
from ..structures import ClassQueries, ClassRequest, TextPrompt
from .cqdino import CQDINO
from .image_model import in_inference_dtype, output_sizes


@META_ARCH_REGISTRY.register()
class GroundingDINO(CQDINO):
    """A `CQDINO` whose class slots are the tokens of prompts.

    An image is searched for what the request says, else for the prompt of its own input dict, else
    for ``prompt``. A prompt of more tokens than the model reads is looked for in passes: an image's
    maps are computed once, what the passes find comes together, best first, and as many detections
    are kept as of one pass. The text side of the last such prompt is kept in inference until a
    weight of it changes.

    Args:
        prompt: what images are searched for where nothing else is said.
        passes_at_once: how many go through the model at once: more are faster on a GPU and take as
            much more memory.
        stages: of `CQDINO`.

    Raises:
        ValueError: fewer than one at once.
    """

    @configurable
    def __init__(
        self, *, prompt: TextPrompt | None = None, passes_at_once: int = 1, **stages: Any
    ) -> None:
        super().__init__(**stages)
        if passes_at_once < 1:
            raise ValueError(f"passes_at_once must be at least 1, got {passes_at_once}")
        self.prompt, self.passes_at_once = prompt, passes_at_once
        self._kept_passes: ParameterMemo[tuple[ClassQueries, ...]] = ParameterMemo()

    def train(self, mode: bool = True) -> GroundingDINO:
        """Training forgets what was kept."""
        self._kept_passes.clear()
        return super().train(mode)

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
        if request is None or self.training:
            request = prompts_of(batched_inputs, None if self.training else self.prompt)
        if not self.training and request.prompts:
            long = [p for p in set(request.prompts) if len(self.categories.split(p)) > 1]
            if long and len(set(request.prompts)) > 1:
                requests = [ClassRequest(prompts=(prompt,)) for prompt in request.prompts]
                pairs = zip(batched_inputs, requests, strict=True)
                return [self([item], one)[0] for item, one in pairs]
            if long:
                request = ClassRequest(passes=self._passes_of(long[0]))
        if request.passes is None:
            return super().forward(batched_inputs, request)
        return self._find_in_passes(batched_inputs, request.passes, request.negatives)

    def _passes_of(self, prompt: TextPrompt) -> tuple[ClassQueries, ...]:
        parameters = list(self.categories.parameters())
        return self._kept_passes.get(
            parameters, lambda: self.read_prompts(self.categories.split(prompt)), of=prompt
        )

    def read_prompts(self, prompts: Sequence[TextPrompt]) -> tuple[ClassQueries, ...]:
        """The text side of prompts, for ``ClassRequest.passes``: ``passes_at_once`` in each."""
        step = self.passes_at_once
        groups = [tuple(prompts[start : start + step]) for start in range(0, len(prompts), step)]
        return tuple(self.categories(ClassRequest(prompts=group)) for group in groups)

    def _find_in_passes(
        self,
        batched_inputs: Sequence[Mapping[str, Any]],
        passes: Sequence[ClassQueries],
        negatives: Sequence[int],
    ) -> list[dict[str, Any]]:
        images = self.preprocess(batched_inputs)
        sizes = list(
            zip(images.image_sizes, output_sizes(batched_inputs, images.image_sizes), strict=True)
        )
        last_map, tokens = self.read(images)
        parts: list[list[Instances]] = [[] for _ in sizes]
        for queries in passes:
            num = len(queries.features)
            places = [image for image in range(len(sizes)) for _ in range(num)]
            request = ClassRequest(queries=queries.rows(list(range(num)) * len(sizes)))
            found = self.find((last_map[places], tokens.rows(places)), None, request)
            own_sizes = zip(*(sizes[image] for image in places), strict=True)
            results = self.post_processor(found.output, found.slots, *own_sizes)
            for image, result in zip(places, results, strict=True):
                parts[image].append(result["instances"])
        most = self.post_processor.num_detections
        return [{"instances": best_of(part, most, negatives)} for part in parts]


def prompts_of(
    batched_inputs: Sequence[Mapping[str, Any]], default: TextPrompt | None
) -> ClassRequest:
    """A request for what each image's own prompt says.

    Args:
        batched_inputs: of the model.
        default: for images without one.

    Raises:
        ValueError: an image without one, and no default.
    """
    prompts = tuple(item.get("prompt", default) for item in batched_inputs)
    for place, prompt in enumerate(prompts):
        if not isinstance(prompt, TextPrompt):
            raise ValueError(
                f"image {place} of {len(prompts)} has no prompt (a TextPrompt under 'prompt'), and "
                "no request says what to look for"
            )
    return ClassRequest(prompts=prompts)


def best_of(parts: Sequence[Instances], most: int, negatives: Sequence[int] = ()) -> Instances:
    """The detections of several passes over one image: ``most`` besides negatives, best first."""
    instances = Instances.cat(list(parts))
    instances = instances[instances.scores.argsort(descending=True, stable=True)]
    classes = instances.pred_classes
    counted = ~torch.isin(classes, torch.tensor(negatives, dtype=torch.int64).to(classes.device))
    return instances[counted.cumsum(0) <= most]
