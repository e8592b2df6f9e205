"""Images of visitors: looked at before they are decoded, refused in words without paths."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import IO

import numpy as np

from ..files import UnreadableImageError, read_image, read_image_size

_LOGGER = logging.getLogger(__name__)
UNREADABLE = "This file cannot be read as an image."


def checked_size(file: str | Path | IO[bytes], max_pixels: int) -> tuple[int, int]:
    """Height and width from the head of an image file.

    Raises:
        ValueError: no image, or one of more pixels, in words for a visitor.
    """
    try:
        height, width = read_image_size(file)
    except (UnreadableImageError, FileNotFoundError) as error:
        raise _unreadable(error) from error
    if height * width > max_pixels:
        raise ValueError(
            f"This image has {width} x {height} pixels; at most {max_pixels / 1e6:g} "
            "million are looked at here. Make it smaller and try again."
        )
    return height, width


def read_bgr(file: str | Path | IO[bytes]) -> np.ndarray:
    """(H, W, 3) uint8 of an image whose size was checked.

    Raises:
        ValueError: it cannot be decoded.
    """
    try:
        return read_image(file, "BGR")
    except (UnreadableImageError, FileNotFoundError) as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> ValueError:
    _LOGGER.warning("an image cannot be read: %s", getattr(error, "reason", "no such file"))
    return ValueError(UNREADABLE)
