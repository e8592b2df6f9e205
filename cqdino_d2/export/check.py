"""Compares exported detectors with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..detector import GroundingDINO
from ..text import wanted_prompts
from .exportable import least_names
from .runtimes import ExportError, Run
from .text_side import arrays_of

Names = Sequence[str | Sequence[str]]
SCORE_TOLERANCE, BOX_TOLERANCE, SHARE = 1e-3, 0.5, 0.99  # the boxes' is in pixels
# the first is traced; the numbers of names, of synonyms and of tokens differ
SAMPLE_NAMES: tuple[Names, ...] = (
    (("cat", "red cat"), "dog", "bus"),
    ("red dog", "bus"),
    (("bus", "red bus", "two cat"), "dog", "red", "a cat"),
)


@dataclass(frozen=True)
class Sizes:
    """Heights and widths in pixels.

    Attributes:
        compared: of the images that are compared, the traced one first; only that one where the
            size is fixed.
        least: smallest side the file takes.
        most: largest side the file takes.
    """

    compared: tuple[tuple[int, int], ...]
    least: int
    most: int

    @property
    def traced(self) -> tuple[int, int]:
        """Of the image that is traced."""
        return self.compared[0]


@dataclass(frozen=True)
class Sample:
    """One image, and words for it where the model reads any.

    Attributes:
        item: Detectron2's input dict.
        inputs: the same as the exported function takes it, by name.
    """

    item: Mapping[str, Any]
    inputs: Mapping[str, np.ndarray]

    def tensors(self) -> dict[str, Tensor]:
        """The inputs as tensors."""
        return {name: torch.from_numpy(array) for name, array in self.inputs.items()}


def make_sample(
    model: nn.Module, size: tuple[int, int], number: int, names: Names | None = None
) -> Sample:
    """An image of coloured blobs, with names (its own by default) where the model reads words."""
    image = make_image(size, number)
    item, inputs = {"image": image}, {"image": image.numpy()}
    if isinstance(model, GroundingDINO):
        names = names or SAMPLE_NAMES[number % len(SAMPLE_NAMES)]
        (prompt,) = wanted_prompts(names, model.categories.tokenizer).prompts
        with torch.no_grad():
            (queries,) = model.read_prompts([prompt])
        item, inputs = item | {"prompt": prompt}, inputs | arrays_of(queries, least_names(model))
    return Sample(item, inputs)


def make_image(size: tuple[int, int], seed: int) -> Tensor:
    """(3, H, W) float32 coloured blobs in 0..255."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 7, 9, generator=generator) * 255
    image = nn.functional.interpolate(coarse, size=size, mode="bilinear")[0]
    return (image + 10 * torch.rand(3, *size, generator=generator)).clamp(0, 255)


def reference_detections(model: nn.Module, item: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """What the model itself detects, in float32."""
    with torch.no_grad():
        found = model([item])[0]["instances"]
    return found.pred_boxes.tensor.numpy(), found.scores.numpy(), found.pred_classes.numpy()


def compare(expected: tuple[np.ndarray, ...], found: tuple[np.ndarray, ...]) -> tuple[float, float]:
    """How far two lists of detections are apart; equal scores may stand in any order.

    Returns:
        The largest difference of scores, best with best, and the share of the expected detections
        that have a counterpart: same category, about the same score and box.

    Raises:
        ExportError: nothing is expected, or fewer detections are found than expected.
    """
    boxes, scores, ids = expected
    if not len(scores):
        raise ExportError("the model detects nothing: there is nothing to compare a file with")
    if len(found[1]) < len(scores):
        raise ExportError(f"the file gives {len(found[1])} detections in place of {len(scores)}")
    found_boxes, found_scores, found_ids = (x[: len(scores)] for x in found)
    same = ids[:, None] == found_ids
    same &= np.abs(scores[:, None] - found_scores) <= SCORE_TOLERANCE
    same &= np.abs(boxes[:, None] - found_boxes).max(-1) <= BOX_TOLERANCE
    return float(np.abs(scores - found_scores).max()), float(same.any(1).mean())


def check(model: nn.Module, run: Run, sizes: Sizes, runtime: str) -> list[str]:
    """Compares the file with the model on all sizes.

    Returns:
        A line for each.

    Raises:
        ExportError: they differ, or nothing can be compared.
    """
    lines = []
    for number, size in enumerate(sizes.compared):
        sample = make_sample(model, size, number)
        expected = reference_detections(model, sample.item)
        difference, share = compare(expected, run(sample.inputs))
        line = (
            f"{size[0]} x {size[1]} in {runtime}: scores differ by at most {difference:.1e}, "
            f"{100 * share:.1f}% of the detections agree"
        )
        if difference > SCORE_TOLERANCE or share < SHARE:
            raise ExportError(f"the file does not compute what the model does at {line}")
        lines.append(line)
    return lines
