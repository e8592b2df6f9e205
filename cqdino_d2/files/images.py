"""Reads images of any mode."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageFile

logger = logging.getLogger(__name__)


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey images (which Pillow would saturate); other modes stay as they are."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image, dtype=np.int64)
    return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))


@contextmanager
def _truncated_images_allowed() -> Iterator[None]:
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _decode(file_name: str, image_format: str, size: tuple[int, int] | None) -> np.ndarray:
    with PathManager.open(file_name, "rb") as file:
        stored = Image.open(file)
        upright = detection_utils._apply_exif_orientation(stored)
        width_height = None if size is None else (size[1], size[0])
        as_stored = upright.size != width_height == stored.size
        image = _to_8_bit(stored if as_stored else upright)
        return detection_utils.convert_PIL_to_numpy(image, image_format)


def read_image(
    file_name: str,
    image_format: str,
    image_id: Any = None,
    *,
    size: tuple[int, int] | None = None,
    allow_truncated: bool = False,
) -> np.ndarray:
    """Reads an image in its upright orientation (EXIF).

    Like Detectron2's function of this name, with 16-bit images and an error that names the image.

    Args:
        file_name: a path that Detectron2's PathManager understands.
        image_format: 'RGB' or 'BGR'.
        image_id: named in errors.
        size: height and width that the annotations were made for. Where they are those of the
            stored pixels and not of the upright image, the pixels are taken as stored.
        allow_truncated: whether the missing part of a file that is cut short is filled, with a
            logged warning, instead of raising an error.

    Returns:
        (H, W, 3) uint8.

    Raises:
        FileNotFoundError: no such file.
        OSError: the file is no image or is cut short.
    """
    try:
        return _decode(file_name, image_format, size)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"image {image_id}: no such file: {file_name}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        first_error = error
    if allow_truncated:
        try:
            with _truncated_images_allowed():
                image = _decode(file_name, image_format, size)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            logger.debug("%s cannot be read as a truncated image either: %s", file_name, error)
        else:
            logger.warning(
                "image %s: %s is damaged (%s): what is missing is filled",
                image_id,
                file_name,
                first_error,
            )
            return image
    raise OSError(f"image {image_id}: cannot read {file_name}: {first_error}") from first_error
