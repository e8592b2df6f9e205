"""Four images in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

MOSAIC_IMAGES = 4
_FILL = 114  # grey of the uncovered part
_CENTRE = (0.3, 0.7)  # range of the point where the four meet, as a share of the side


def compose_mosaic(
    images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray], side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Puts four images around a random point of a square canvas.

    Each image is scaled to fit its quadrant, its ratio kept, and touches the point with a corner;
    nothing is cut off. Draws from NumPy's global generator, as Detectron2's augmentations do.

    Args:
        images: four (H, W, C) uint8.
        boxes_xyxy: the (N, 4) boxes of each, in pixels.
        side: of the canvas in pixels.

    Returns:
        (side, side, C) uint8 and all (N0 + N1 + N2 + N3, 4) boxes on it.

    Raises:
        ValueError: not four images, or a canvas of less than 8 pixels.
    """
    if not len(images) == len(boxes_xyxy) == MOSAIC_IMAGES or side < 8:
        raise ValueError(
            f"a mosaic needs {MOSAIC_IMAGES} images and a side of at least 8 pixels, got "
            f"{len(images)} images and a side of {side}"
        )
    centre_x, centre_y = (side * np.random.uniform(*_CENTRE, size=2)).astype(int)  # noqa: NPY002
    canvas = np.full((side, side, images[0].shape[2]), _FILL, dtype=np.uint8)
    placed = []
    for quadrant, (image, boxes) in enumerate(zip(images, boxes_xyxy, strict=True)):
        right, below = quadrant % 2 == 1, quadrant >= 2
        room_x = side - centre_x if right else centre_x
        room_y = side - centre_y if below else centre_y
        height, width = image.shape[:2]
        scale = min(room_x / width, room_y / height)
        new_width, new_height = max(1, int(width * scale)), max(1, int(height * scale))
        x = centre_x if right else centre_x - new_width
        y = centre_y if below else centre_y - new_height
        resized = Image.fromarray(image).resize((new_width, new_height), Image.BILINEAR)
        canvas[y : y + new_height, x : x + new_width] = np.asarray(resized)
        factors = np.asarray([new_width / width, new_height / height] * 2)
        placed.append(boxes * factors + np.asarray([x, y, x, y]))
    return canvas, np.concatenate(placed)
