"""Reads images of any mode: the one place that opens them.

Pillow would choose among all its formats by a file's content, and some of these start programs
(Ghostscript for EPS) or read little-tested formats; here it may choose among `FORMATS` alone.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageFile, UnidentifiedImageError

logger = logging.getLogger(__name__)

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# what Pillow's decoders raise for files that are not what they should be
_DECODERS_RAISE = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


class UnreadableImageError(OSError):
    """A file is no image that can be read.

    Args:
        message: names the file.

    Attributes:
        reason: why, without the file's name.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


def reason_of(error: Exception) -> str:
    """Why a file could not be done, without its name; may be of several lines, never empty."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    reason = error.reason if isinstance(error, UnreadableImageError) else str(error)
    return reason or type(error).__name__


def image_suffixes() -> frozenset[str]:
    """The endings, in lower case, of the formats that are read."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in FORMATS)


def open_image(file: str | Path | IO[bytes]) -> Image.Image:
    """Opens an image of one of `FORMATS`; its pixels are read when they are asked for.

    Raises:
        ValueError: another format, or more pixels than Pillow's limit allows.
        OSError: the file cannot be read.
    """
    try:
        return Image.open(file, formats=_readable_formats())
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot identify it as one of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def _readable_formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def rounded_pixels(values: np.ndarray) -> np.ndarray:
    """Floating-point pixels in 0..255 as uint8, rounded; the shape stays.

    Raises:
        ValueError: pixels that are not finite or out of range, or none above 1 (but for black):
            those are taken for pixels in 0..1.
    """
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are NaN or infinite")
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0 or highest > 255 or 0 < highest <= 1:
        hint = "; for pixels in 0..1, multiply by 255" if 0 <= lowest and highest <= 1 else ""
        raise ValueError(
            f"its {values.dtype} pixels are {lowest:g} to {highest:g}, expected 0..255{hint}"
        )
    return np.rint(values).astype(np.uint8)


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey images (which Pillow would saturate) and rounds floating-point ones."""
    if image.mode == "F":
        return Image.fromarray(rounded_pixels(np.asarray(image)))
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


@contextmanager
def _opened(file: str | Path | IO[bytes]) -> Iterator[IO[bytes]]:
    """A file from its start. A pipe is refused: its reader waits for a writer, without end."""
    if not isinstance(file, (str, Path)):
        file.seek(0)
        yield file
        return
    path = str(file)
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise OSError("it is no regular file")
    with PathManager.open(path, "rb") as opened:
        yield opened


def _decode(
    source: str | Path | IO[bytes], image_format: str, size: tuple[int, int] | None
) -> np.ndarray:
    with _opened(source) as file:
        stored = open_image(file)
        upright = detection_utils._apply_exif_orientation(stored)
        width_height = None if size is None else (size[1], size[0])
        as_stored = upright.size != width_height == stored.size
        image = _to_8_bit(stored if as_stored else upright)
        return detection_utils.convert_PIL_to_numpy(image, image_format)


def _name(file: str | Path | IO[bytes]) -> str:
    return str(file) if isinstance(file, (str, Path)) else "the image"


def read_image(
    file_name: str | Path | IO[bytes],
    image_format: str,
    image_id: Any = None,
    *,
    size: tuple[int, int] | None = None,
    allow_truncated: bool = False,
) -> np.ndarray:
    """Reads an image in its upright orientation (EXIF); an alpha channel is left out.

    Like Detectron2's function of this name, with 16-bit images, an error that names the image, and
    for `FORMATS` alone.

    Args:
        file_name: a path that Detectron2's PathManager understands, or an open file.
        image_format: 'RGB' or 'BGR'.
        image_id: named in errors; None for an image of no dataset.
        size: height and width that the annotations were made for. Where they are those of the
            stored pixels and not of the upright image, the pixels are taken as stored.
        allow_truncated: whether the missing part of a file that is cut short is filled, with a
            logged warning, instead of raising an error.

    Returns:
        (H, W, 3) uint8.

    Raises:
        FileNotFoundError: no such file.
        UnreadableImageError: the file is no such image, too large, or cut short.
    """
    name = _name(file_name)
    of_set = "" if image_id is None else f"image {image_id}: "
    try:
        return _decode(file_name, image_format, size)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{of_set}no such file: {name}") from error
    except _DECODERS_RAISE as error:
        first_error = error
    if allow_truncated:
        try:
            with _truncated_images_allowed():
                image = _decode(file_name, image_format, size)
        except _DECODERS_RAISE as error:
            logger.debug("%s cannot be read as a truncated image either: %s", name, error)
        else:
            message = "%s%s is damaged (%s): what is missing is filled"
            logger.warning(message, of_set, name, _reason(first_error))
            return image
    reason = _reason(first_error)
    raise UnreadableImageError(f"{of_set}cannot read {name}: {reason}", reason) from first_error


def read_image_size(file_name: str | Path | IO[bytes]) -> tuple[int, int]:
    """Height and width of the stored image, from the file's head alone.

    Raises:
        UnreadableImageError: the file is no image.
    """
    try:
        with _opened(file_name) as file:
            stored = open_image(file)
            return stored.height, stored.width
    except _DECODERS_RAISE as error:
        reason = _reason(error)
        raise UnreadableImageError(f"cannot read {_name(file_name)}: {reason}", reason) from error


def _reason(error: Exception) -> str:
    """An error in one line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__
