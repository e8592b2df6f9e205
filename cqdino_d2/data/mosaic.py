"""Four images in one, in two forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

MOSAIC_IMAGES = 4
_FILL = 114  # grey of the uncovered part


class UniformDraws(Protocol):
    """A source of random numbers: NumPy's generators and `random.Random` are."""

    def uniform(self, low: float, high: float) -> float:
        """A number between the two."""


class Mosaic(Protocol):
    """Makes one image of four.

    Attributes:
        augments_parts: whether the augmentations apply to each of the four beforehand, instead of
            to what was made of them.
    """

    augments_parts: bool

    def __call__(
        self,
        images: Sequence[np.ndarray],
        boxes_xyxy: Sequence[np.ndarray],
        draws: UniformDraws,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Puts four images around a random point of a square canvas.

        Args:
            images: four (H, W, C) uint8: top left, top right, bottom left, bottom right.
            boxes_xyxy: the (N, 4) boxes of each, in pixels.
            draws: decides where the four meet.

        Returns:
            (side, side, C) uint8 and all (N0 + N1 + N2 + N3, 4) boxes on it, clipped to it: of a
            box outside the canvas no area is left.

        Raises:
            ValueError: not four images.
        """


@dataclass(frozen=True)
class PlacedImage:
    """Where an image comes to lie.

    Attributes:
        size: its new width and height in pixels.
        corner: x and y of its top left corner on the canvas; it may lie outside.
        factors: what its boxes are scaled by in x and in y.
    """

    size: tuple[int, int]
    corner: tuple[int, int]
    factors: tuple[float, float]

    def visible(self, side: int) -> tuple[int, int, int, int]:
        """The part of a canvas that it covers: x1, y1, x2, y2, the latter two exclusive."""
        (x, y), (width, height) = self.corner, self.size
        return max(x, 0), max(y, 0), min(x + width, side), min(y + height, side)


class _RoundAPoint:
    """What both forms share: four images that meet at a point of a square canvas.

    Args:
        side: of the canvas in pixels.

    Raises:
        ValueError: a side of less than 8 pixels.
    """

    def __init__(self, *, side: int) -> None:
        if side < 8:
            raise ValueError(f"a mosaic needs a side of at least 8 pixels, got {side}")
        self.side = side

    def __call__(
        self,
        images: Sequence[np.ndarray],
        boxes_xyxy: Sequence[np.ndarray],
        draws: UniformDraws,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Mosaic`."""
        sizes = _sizes_of(images)
        return _paste(images, boxes_xyxy, self.places(sizes, self.centre(draws)), self.side)

    def centre(self, draws: UniformDraws) -> tuple[int, int]:
        """(x, y) of the point where the four meet; x is drawn first."""
        raise NotImplementedError

    def places(
        self, sizes: Sequence[tuple[int, int]], centre: tuple[int, int]
    ) -> list[PlacedImage]:
        """Where images of four (height, width) lie that meet at a centre (x, y)."""
        raise NotImplementedError


class QuadrantMosaic(_RoundAPoint):
    """Each image is scaled to fit its quadrant, its ratio kept; nothing is cut off.

    The four meet within the middle 40 % of the canvas, which the augmentations follow.

    Args:
        side: of the canvas in pixels.

    Raises:
        ValueError: a side of less than 8 pixels.
    """

    augments_parts = False

    def __init__(self, *, side: int = 1024) -> None:
        super().__init__(side=side)

    def centre(self, draws: UniformDraws) -> tuple[int, int]:
        """See `_RoundAPoint`."""
        return _drawn_centre(draws, (0.3, 0.7), self.side)

    def places(
        self, sizes: Sequence[tuple[int, int]], centre: tuple[int, int]
    ) -> list[PlacedImage]:
        """See `_RoundAPoint`."""
        places = []
        for quadrant, (height, width) in enumerate(sizes):
            room_x, room_y = (
                self.side - middle if beyond else middle
                for middle, beyond in zip(centre, _beyond(quadrant), strict=True)
            )
            scale = min(room_x / width, room_y / height)
            size = max(1, int(width * scale)), max(1, int(height * scale))
            factors = size[0] / width, size[1] / height
            places.append(PlacedImage(size, _corner(quadrant, size, centre), factors))
        return places


class CutMosaic(_RoundAPoint):
    """RichSem's (arXiv 2310.12152): every image is scaled to half the side and cut at the edge.

    Each image is augmented by itself. The four meet within the middle half of the canvas. Unlike
    the official code, which has images with one box each, it clips boxes of any kind.

    Args:
        side: of the canvas in pixels, an even number.

    Raises:
        ValueError: a side of less than 8 pixels or an odd one.
    """

    augments_parts = True

    def __init__(self, *, side: int = 1280) -> None:
        super().__init__(side=side)
        if side % 2:
            raise ValueError(f"the side of a mosaic that is halved must be even, got {side}")

    def centre(self, draws: UniformDraws) -> tuple[int, int]:
        """See `_RoundAPoint`."""
        return _drawn_centre(draws, (0.5, 1.5), self.side // 2)

    def places(
        self, sizes: Sequence[tuple[int, int]], centre: tuple[int, int]
    ) -> list[PlacedImage]:
        """See `_RoundAPoint`."""
        half, places = self.side // 2, []
        for quadrant, (height, width) in enumerate(sizes):
            scale = min(half / height, half / width)
            size = max(1, int(width * scale)), max(1, int(height * scale))
            places.append(PlacedImage(size, _corner(quadrant, size, centre), (scale, scale)))
        return places


def _drawn_centre(draws: UniformDraws, shares: tuple[float, float], unit: int) -> tuple[int, int]:
    """(x, y) in pixels, each a number between two shares of a unit."""
    x, y = (int(draws.uniform(*shares) * unit) for _ in "xy")
    return x, y


def _sizes_of(images: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """(height, width) of each."""
    if len(images) != MOSAIC_IMAGES:
        raise ValueError(f"a mosaic needs {MOSAIC_IMAGES} images, got {len(images)} images")
    return [image.shape[:2] for image in images]


def _beyond(quadrant: int) -> tuple[bool, bool]:
    """Whether a quadrant lies right of the centre, and below it."""
    return quadrant % 2 == 1, quadrant >= 2


def _corner(quadrant: int, size: tuple[int, int], centre: tuple[int, int]) -> tuple[int, int]:
    """Top left corner of an image that touches the centre with its inner corner."""
    x, y = (
        middle if beyond else middle - length
        for length, middle, beyond in zip(size, centre, _beyond(quadrant), strict=True)
    )
    return x, y


def _paste(
    images: Sequence[np.ndarray],
    boxes_xyxy: Sequence[np.ndarray],
    places: Sequence[PlacedImage],
    side: int,
) -> tuple[np.ndarray, np.ndarray]:
    canvas = np.full((side, side, images[0].shape[2]), _FILL, dtype=np.uint8)
    placed = []
    for image, boxes, place in zip(images, boxes_xyxy, places, strict=True):
        resized = np.asarray(Image.fromarray(image).resize(place.size, Image.BILINEAR))
        x1, y1, x2, y2 = place.visible(side)
        x, y = place.corner
        canvas[y1:y2, x1:x2] = resized[y1 - y : y2 - y, x1 - x : x2 - x]
        moved = boxes * np.asarray([*place.factors] * 2) + np.asarray([*place.corner] * 2)
        placed.append(np.clip(moved, 0, side))
    return canvas, np.concatenate(placed)
