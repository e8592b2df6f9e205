"""Exported ONNX files at work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .runtimes import RUNTIMES, ExportError
from .text_side import TextInputs

REQUIRED_FACTS = {"input", "outputs", "checkpoint", "sha256"}


@dataclass(frozen=True)
class Found:
    """What is in an image, best first.

    Attributes:
        boxes: (N, 4) xyxy in the image's pixels.
        scores: (N,) in 0..1.
        names: N of them.
    """

    boxes: np.ndarray
    scores: np.ndarray
    names: Sequence[str]


class ExportedDetector:
    """An ONNX file of `export_detector` in onnxruntime or OpenVINO.

    Args:
        path: the file; its description is next to it, see `description_of`.
        runtime: one of ``onnxruntime`` and ``openvino``.
        threads: of the runtime; None leaves the number to it.

    Raises:
        FileNotFoundError: the file or its description is missing.
        ValueError: not such a file, the description of another one, another runtime, or a runtime
            that is not installed.
    """

    def __init__(
        self, path: str | Path, *, runtime: str = "onnxruntime", threads: int | None = None
    ) -> None:
        self.path = Path(path)
        if runtime not in ("onnxruntime", "openvino"):
            raise ValueError(f"runtime must be onnxruntime or openvino, got {runtime!r}")
        self.facts = _read_facts(self.path)
        content = self.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.facts["sha256"]:
            raise ExportError(f"{self.path} is another file than {description_of(path)} describes")
        self._run = RUNTIMES[runtime](content, threads)

    @property
    def reads_words(self) -> bool:
        """Whether it needs a prompt."""
        return "text_inputs" in self.facts

    def __call__(self, image: np.ndarray, passes: Sequence[TextInputs] = ()) -> Found:
        """Detects.

        Args:
            image: (3, H, W) float32, RGB in 0..255, of the size the model is to see.
            passes: what to look for, from a `TextSide`; only of a detector that reads words.

        Raises:
            ValueError: an image of another form or size, words for a detector that reads none or
                none for one that does, or the text side of another model.
        """
        self._check_image(image)
        self._check_words(passes)
        results = [self._run({"image": image} | dict(one.arrays)) for one in passes or [_NOTHING]]
        boxes, scores, ids = (np.concatenate(arrays) for arrays in zip(*results, strict=True))
        best = (-scores).argsort(kind="stable")
        best = best[ids[best] >= 0][: len(results[0][1])]
        names = passes[0].names if passes else self.facts["names"]
        return Found(boxes[best], scores[best], [names[place] for place in ids[best]])

    def _check_image(self, image: np.ndarray) -> None:
        if image.ndim != 3 or len(image) != 3 or image.dtype != np.float32:
            raise ValueError(
                f"expected an image (3, height, width) of float32, got {image.shape} of "
                f"{image.dtype}"
            )
        size, limits = image.shape[1:], self.facts["input"]["side_pixels"]
        if limits is None:
            fits = list(size) == self.facts["input"]["shape"][1:]
            wanted = "exactly {} x {}".format(*self.facts["input"]["shape"][1:])
        else:
            fits = limits["least"] <= min(size) and max(size) <= limits["most"]
            wanted = "sides of {least} to {most}".format(**limits)
        if not fits:
            raise ValueError(
                f"{self.path.name} takes images of {wanted} pixels, got {size[0]} x {size[1]}"
            )

    def _check_words(self, passes: Sequence[TextInputs]) -> None:
        if bool(passes) != self.reads_words:
            raise ValueError(
                f"{self.path.name} " + ("needs a prompt" if self.reads_words else "reads no words")
            )
        for one in passes:
            if one.checkpoint != self.facts["checkpoint"]:
                raise ValueError(
                    f"the words were read by another model (checkpoint {one.checkpoint}) than "
                    f"that of {self.path.name} ({self.facts['checkpoint']})"
                )


_NOTHING = TextInputs((), {}, "")


def description_of(path: str | Path) -> Path:
    """Where the description of an exported file is: its whole name and .json."""
    path = Path(path)
    return path.with_name(f"{path.name}.json")


def _read_facts(path: Path) -> dict[str, Any]:
    """The description next to a file.

    Raises:
        FileNotFoundError: either is missing.
        ValueError: it describes something else.
    """
    sidecar = description_of(path)
    for one in (path, sidecar):
        if not one.is_file():
            raise FileNotFoundError(f"there is no {one}")
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        known = facts["format"] == "onnx" and REQUIRED_FACTS <= facts.keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise ExportError(f"{sidecar} describes no ONNX file of this package")
    return facts
