"""Reads images of any mode."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey images (which Pillow would saturate); other modes stay as they are."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image, dtype=np.int64)
    return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))


def read_image(file_name: str, image_format: str, image_id: Any = None) -> np.ndarray:
    """Reads an image in its upright orientation (EXIF).

    Like Detectron2's function of this name, with 16-bit images and an error that names the image.

    Args:
        file_name: a path that Detectron2's PathManager understands.
        image_format: 'RGB' or 'BGR'.
        image_id: named in errors.

    Returns:
        (H, W, 3) uint8.

    Raises:
        FileNotFoundError: no such file.
        OSError: the file is no image or is cut short.
    """
    try:
        with PathManager.open(file_name, "rb") as file:
            image = detection_utils._apply_exif_orientation(Image.open(file))
            return detection_utils.convert_PIL_to_numpy(_to_8_bit(image), image_format)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"image {image_id}: no such file: {file_name}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"image {image_id}: cannot read {file_name}: {error}") from error
