"""Augmentations, as lists for a config."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T
from PIL import Image

TRAIN_SHORT_SIDES = tuple(range(480, 801, 32))
_CROP_LONGEST = 4200  # before the crop, as in mmdetection's DINO: for ratios above 7 alone


def resized_size(
    height: int, width: int, short: int, longest: int, *, short_side_first: bool = False
) -> tuple[int, int]:
    """Height and width of an image as the released models were tested with it.

    int(side * scale), scale = min(longest / longer side, short / shorter side) in double precision,
    and at least one pixel. All of evaluation, `CategoryPredictor`, demo and page follow it.

    Args:
        height, width: of the image in pixels.
        short: wanted length of the shorter side in pixels.
        longest: largest length of the longer side in pixels.
        short_side_first: as DETR's code and the official Grounding DINO's do it: where the longer
            side would be too long, the shorter is rounded to what it should be, and the longer
            follows from it. It may then be a pixel or two longer or shorter than ``longest``.
    """
    shorter, longer = sorted((height, width))
    if short_side_first and longer <= longest * shorter:  # else less than a pixel is left
        if longer / shorter * short > longest:
            short = round(longest * shorter / longer)
        other = int(short * longer / shorter)
        return (other, short) if width < height else (short, other)
    scale = min(longest / max(height, width), short / min(height, width))
    return max(1, int(height * scale)), max(1, int(width * scale))


class ResizeShortestEdgeTruncated(T.Augmentation):
    """Scales the short side to a length, the long side to at most another; sizes truncated.

    The new size is that of `resized_size`. Detectron2's own class rounds, so it can differ by a
    pixel.

    Args:
        short_edge_length: wanted length of the short side in pixels.
        max_size: largest length of the long side in pixels.
        short_side_first: see `resized_size`.
    """

    def __init__(
        self, short_edge_length: int, max_size: int, *, short_side_first: bool = False
    ) -> None:
        super().__init__()
        self.short_edge_length = short_edge_length
        self.max_size = max_size
        self.short_side_first = short_side_first

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The resize of an (H, W, C) image, bilinear by Pillow."""
        height, width = image.shape[:2]
        new_size = resized_size(
            height,
            width,
            self.short_edge_length,
            self.max_size,
            short_side_first=self.short_side_first,
        )
        return T.ResizeTransform(height, width, *new_size, Image.BILINEAR)


class AtLeastOnePixel(T.Augmentation):
    """Another resize whose sizes are at least one pixel: of very thin images it could leave none.

    Args:
        resize: returns a ``ResizeTransform``.
    """

    def __init__(self, resize: T.Augmentation) -> None:
        super().__init__()
        self.resize = resize

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The resize of an (H, W, C) image."""
        transform = self.resize.get_transform(image)
        if isinstance(transform, T.ResizeTransform):
            transform.new_h, transform.new_w = max(1, transform.new_h), max(1, transform.new_w)
        return transform


def training_augmentations(
    *,
    short_sides: Sequence[int] = TRAIN_SHORT_SIDES,
    max_size: int = 1333,
    flip: float = 0.5,
    crop: bool = False,
) -> list[T.Augmentation]:
    """Horizontal flip and multi-scale resize, with DETR's crop branch as an option.

    Args:
        short_sides: lengths in pixels from which that of the short side is drawn.
        max_size: largest length of the long side in pixels.
        flip: probability of the flip.
        crop: whether half of the images are resized to a short side of 400, 500 or 600 and then
            cropped to 384..600 pixels before the resize (the released settings do without).

    Returns:
        Augmentations in the order in which they are applied.
    """
    augmentations: list[T.Augmentation] = []
    if flip > 0:
        augmentations.append(T.RandomFlip(flip))
    if crop:
        branch = [
            AtLeastOnePixel(T.ResizeShortestEdge([400, 500, 600], _CROP_LONGEST, "choice")),
            T.RandomCrop("absolute_range", (384, 600)),
        ]
        augmentations.append(T.RandomApply(T.AugmentationList(branch), prob=0.5))
    resize = T.ResizeShortestEdge(list(short_sides), max_size, sample_style="choice")
    augmentations.append(AtLeastOnePixel(resize))
    return augmentations


def large_scale_jitter(
    *,
    image_size: int = 1024,
    scales: tuple[float, float] = (0.1, 2.0),
    flip: float = 0.5,
) -> list[T.Augmentation]:
    """Large-scale jitter (arXiv 2012.07177): a random scale, then a square of fixed size.

    Args:
        image_size: side of the square in pixels; what the image does not cover is grey (128).
        scales: range of the scale, relative to the image fitted into the square.
        flip: probability of the horizontal flip.

    Returns:
        Augmentations in the order in which they are applied.

    Raises:
        ValueError: a range that is empty or not positive.
    """
    smallest, largest = scales
    if not 0 < smallest <= largest:
        raise ValueError(f"scales must be MIN <= MAX, both positive, got {tuple(scales)}")
    jitter = [
        AtLeastOnePixel(T.ResizeScale(smallest, largest, image_size, image_size)),
        T.FixedSizeCrop((image_size, image_size)),
    ]
    return [T.RandomFlip(flip), *jitter] if flip > 0 else jitter
