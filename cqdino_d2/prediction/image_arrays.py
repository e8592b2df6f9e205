"""Which arrays are images for a predictor."""

from __future__ import annotations

import numpy as np

from ..files.images import rounded_pixels


def checked_image(image: np.ndarray) -> np.ndarray:
    """A BGR image as uint8.

    Args:
        image: (H, W, 3) uint8, or floating point in 0..255, which is rounded: it then gives what
            the same pixels give as uint8.

    Returns:
        (H, W, 3) uint8.

    Raises:
        TypeError: no numpy array.
        ValueError: another shape or type, or pixels that are not finite or not in 0..255. Floating
            point without a pixel above 1 is refused, but for black: that is an image in 0..1.
    """
    if not isinstance(image, np.ndarray):
        hint = " (cv2.imread gives None for a file that it cannot read)" if image is None else ""
        raise TypeError(
            f"expected a BGR image as a numpy array (H, W, 3), got {type(image).__name__}{hint}"
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"expected a BGR image (H, W, 3), got an array {image.shape}{_shape_hint(image.shape)}"
        )
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        known = image.dtype.kind in "biu"
        values = f" {image.min()} to {image.max()}" if known else ""
        raise ValueError(
            f"expected a BGR image of uint8, or of floats in 0..255, got {image.dtype} pixels"
            f"{values}{_TYPE_HINTS.get(image.dtype.name, '')}"
        )
    try:
        return rounded_pixels(image)
    except ValueError as error:
        raise ValueError(f"this is no BGR image: {error}") from error


_TYPE_HINTS = {
    "uint16": "; if they are of 16 bits, (image >> 8).astype('uint8') makes such an image",
    "bool": "; 255 * image.astype('uint8') makes such an image",
}


def _shape_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return ": of a grey image, np.stack([image] * 3, axis=2) makes one"
    if len(shape) == 3 and shape[2] == 1:
        return ": of a grey image, np.repeat(image, 3, axis=2) makes one"
    if len(shape) == 3 and shape[2] == 4:
        return ": image[:, :, :3] is without the alpha channel"
    if len(shape) == 3 and shape[0] == 3 and shape[2] != 3:
        return ": image.transpose(1, 2, 0) has the channels last"
    return ": predictor.batch takes several images" if len(shape) == 4 else ""
