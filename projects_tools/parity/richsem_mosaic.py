"""Recorded mosaics of the official RichSem, and ours of the same images and draws."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cqdino_d2.data import CutMosaic

from .fixture import Recorded

_BOX_TOLERANCE = 1e-3  # pixels
_SHADES = (10, 60, 160, 210)  # of the images; the canvas' grey is none of them
_GREY = 114


class _GivenDraws:
    """Draws that lead to a centre which was recorded without a seed."""

    def __init__(self, centre: tuple[int, int], half: int) -> None:
        self.shares = [(middle + 0.5) / half for middle in centre]

    def uniform(self, low: float, high: float) -> float:
        """The share of x, then that of y."""
        return self.shares.pop(0)


def check_mosaic(fixture: Recorded, compare: Any) -> None:
    """Every case's rectangles, boxes and covered areas, then the small one's pixels."""
    for case in fixture.about["cases"]:
        _check_case(case, fixture, compare)
    inputs = [fixture.tensor(f"pixels_input{i}").numpy() for i in range(4)]
    half = fixture.about["pixels_scale"]
    draws = _GivenDraws(fixture.about["pixels_centre_xy"], half)
    canvas, boxes = CutMosaic(side=2 * half)(inputs, [_whole(x) for x in inputs], draws)
    compare.same("pixels", torch.from_numpy(canvas), fixture.tensor("pixels_output"))
    _compare_boxes("pixels boxes", boxes, fixture.tensor("pixels_boxes_xyxy"), compare)


def _check_case(case: Mapping[str, Any], fixture: Recorded, compare: Any) -> None:
    name, sizes = f"case{case['case']}", case["sizes_hw"]
    mosaic = CutMosaic(side=case["canvas_wh"][0])
    seeded = random.Random(case["random_seed"])
    seeded.random()  # whether there is to be a mosaic
    state = seeded.getstate()
    centre = mosaic.centre(seeded)
    compare.equal(f"{name} centre", list(centre), case["centre_xy"])
    places = mosaic.places(sizes, centre)
    compare.equal(f"{name} resized", [list(p.size) for p in places], case["resized_wh"])
    shown = [place.visible(mosaic.side) for place in places]
    compare.equal(f"{name} paste", [list(one) for one in shown], case["paste_x1y1x2y2"])
    corners = [place.corner * 2 for place in places]
    crops = [
        [edge - start for edge, start in zip(one, corner, strict=True)]
        for one, corner in zip(shown, corners, strict=True)
    ]
    compare.equal(f"{name} crop", crops, case["crop_x1y1x2y2"])
    images = [
        np.full((*size, 3), shade, dtype=np.uint8)
        for size, shade in zip(sizes, _SHADES, strict=True)
    ]
    seeded.setstate(state)
    canvas, boxes = mosaic(images, [_whole(image) for image in images], seeded)
    compare.equal(
        f"{name} size", list(canvas.shape[:2]), fixture.tensor(f"{name}_size_hw").tolist()
    )
    _compare_boxes(f"{name} boxes", boxes, fixture.tensor(f"{name}_boxes_xyxy"), compare)
    counts = torch.tensor([int((canvas[..., 0] == shade).sum()) for shade in (_GREY, *_SHADES)])
    compare.same(f"{name} covered", counts, fixture.tensor(f"{name}_grey_counts"))


def _whole(image: np.ndarray) -> np.ndarray:
    """(1, 4) box of an image."""
    height, width = image.shape[:2]
    return np.asarray([[0.0, 0.0, width, height]])


def _compare_boxes(stage: str, boxes: np.ndarray, recorded: torch.Tensor, compare: Any) -> None:
    gap = float((torch.from_numpy(boxes) - recorded.double()).abs().max())
    compare.equal(f"{stage} within {_BOX_TOLERANCE} pixels", gap <= _BOX_TOLERANCE, True)
