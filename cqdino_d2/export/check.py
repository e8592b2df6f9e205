"""Runs exported detectors and compares them with the model."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

OUTPUTS = ("boxes", "scores", "vocab_ids")
SCORE_TOLERANCE, BOX_TOLERANCE, SHARE = 1e-3, 0.5, 0.99  # the boxes' is in pixels
Run = Callable[[Tensor], tuple[np.ndarray, ...]]


class ExportError(ValueError):
    """The model cannot be exported, or the file does not compute what the model does."""


@dataclass(frozen=True)
class Sizes:
    """Heights and widths in pixels.

    Attributes:
        traced: of the image that is traced.
        other: of the second image of the comparison; the same where the size is fixed.
        least: smallest side the file takes.
        most: largest side the file takes.
    """

    traced: tuple[int, int]
    other: tuple[int, int]
    least: int
    most: int


def make_image(size: tuple[int, int], seed: int) -> Tensor:
    """(3, H, W) float32 coloured blobs in 0..255."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 7, 9, generator=generator) * 255
    image = nn.functional.interpolate(coarse, size=size, mode="bilinear")[0]
    return (image + 10 * torch.rand(3, *size, generator=generator)).clamp(0, 255)


def onnx_runner(content: bytes) -> Run:
    """Runs an ONNX file on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: tuple(session.run(list(OUTPUTS), {"image": image.numpy()}))


def torch_runner(content: bytes) -> Run:
    """Runs a torch.export file."""
    module = torch.export.load(io.BytesIO(content)).module()

    def run(image: Tensor) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            return tuple(x.numpy() for x in module(image))

    return run


def reference_detections(model: nn.Module, image: Tensor) -> tuple[np.ndarray, ...]:
    """What the model itself detects, in float32."""
    with torch.no_grad():
        found = model([{"image": image}])[0]["instances"]
    return found.pred_boxes.tensor.numpy(), found.scores.numpy(), found.pred_classes.numpy()


def compare(expected: tuple[np.ndarray, ...], found: tuple[np.ndarray, ...]) -> tuple[float, float]:
    """How far two lists of detections are apart; equal scores may stand in any order.

    Returns:
        The largest difference of scores, best with best, and the share of the expected detections
        that have a counterpart: same category, about the same score and box.
    """
    boxes, scores, ids = expected
    found_boxes, found_scores, found_ids = (x[: len(scores)] for x in found)
    same = ids[:, None] == found_ids
    same &= np.abs(scores[:, None] - found_scores) <= SCORE_TOLERANCE
    same &= np.abs(boxes[:, None] - found_boxes).max(-1) <= BOX_TOLERANCE
    return float(np.abs(scores - found_scores).max(initial=0)), float(same.any(1).mean())


def check(model: nn.Module, run: Run, sizes: Sizes) -> list[str]:
    """Compares the file with the model on two sizes.

    Returns:
        A line for each.

    Raises:
        ExportError: they differ.
    """
    lines = []
    for seed, size in enumerate(dict.fromkeys((sizes.traced, sizes.other))):
        image = make_image(size, seed)
        difference, share = compare(reference_detections(model, image), run(image))
        line = (
            f"{size[0]} x {size[1]}: scores differ by at most {difference:.1e}, "
            f"{100 * share:.1f}% of the detections agree"
        )
        if difference > SCORE_TOLERANCE or share < SHARE:
            raise ExportError(f"the file does not compute what the model does at {line}")
        lines.append(line)
    return lines
