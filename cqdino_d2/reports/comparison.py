"""Pictures of a report: an image's true boxes beside the detected ones, small enough for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..annotations import image_table
from ..annotations.ids import Id
from ..files import inside, write_atomically
from ..visualization.drawing import load_font, short

PANEL = 420  # pixels, the longer side of each of the two panels
_LARGEST_ZOOM = 4.0
_GAP = 6
_TEXT_SIZE = 15
_LONGEST_LABEL = 28
COLOURS = {
    "found": "#2e8b57",
    "missed": "#e67e00",
    "hit": "#2e8b57",
    "error": "#d62728",
    "excused": "#7f8c8d",
    "other": "#9aa5ad",
}


@dataclass(frozen=True)
class DrawnBox:
    """A box of a picture.

    Attributes:
        box_xywh_abs: in the image's pixels.
        label: '' for none.
        role: one of `COLOURS`.
        thick: whether the picture is about it.
    """

    box_xywh_abs: Sequence[float]
    label: str
    role: str
    thick: bool = False


@dataclass(frozen=True)
class ImageFile:
    """Where an image lies, and the height and width its boxes are meant for (None: unknown)."""

    path: Path
    size: tuple[int, int] | None


def image_files(annotations: Path, folder: Path) -> dict[Id, ImageFile]:
    """The file of each image id of an annotation file.

    Args:
        annotations: in COCO's form; LVIS names the files by ``coco_url``.
        folder: what the file names are relative to.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no annotation file, images without a file name, or with one that leads out of
            the folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of images: {folder}")
    table = image_table(annotations)
    found = {}
    for one, name, size in zip(table.ids, table.file_names, table.sizes, strict=True):
        try:
            found[one] = ImageFile(inside(folder, name), size)
        except ValueError as error:
            raise ValueError(f"{annotations}: image {one!r}: {error}") from error
    return found


def _panel(image: Image.Image, zoom: float, boxes: Sequence[DrawnBox]) -> Image.Image:
    panel, font = image.copy(), load_font(_TEXT_SIZE)
    pen = ImageDraw.Draw(panel)
    for box in sorted(boxes, key=lambda one: one.thick):
        left, top, width, height = (zoom * value for value in box.box_xywh_abs)
        right, bottom = left + max(width, 0), top + max(height, 0)
        colour = COLOURS[box.role]
        pen.rectangle((left, top, right, bottom), outline=colour, width=4 if box.thick else 2)
        if not box.label:
            continue
        label = short(" ".join(box.label.split()), _LONGEST_LABEL)
        text_width, text_height = pen.textlength(label, font) + 4, _TEXT_SIZE + 4
        x = min(max(left, 0), max(panel.width - text_width, 0))
        y = top - text_height if top >= text_height else max(top, 0)
        y = min(y, panel.height - text_height)
        pen.rectangle((x, y, x + text_width, y + text_height), fill=colour)
        pen.text((x + 2, y + 1), label, fill="white", font=font)
    return panel


def draw_pair(
    image_rgb: np.ndarray, truths: Sequence[DrawnBox], found: Sequence[DrawnBox]
) -> Image.Image:
    """Draws an image twice, side by side: with its true boxes and with the detected ones.

    Args:
        image_rgb: (H, W, 3) uint8.
        truths: boxes of the left panel.
        found: boxes of the right panel.
    """
    height, width = image_rgb.shape[:2]
    zoom = min(PANEL / max(height, width), _LARGEST_ZOOM)
    size = (max(1, round(zoom * width)), max(1, round(zoom * height)))
    image = Image.fromarray(image_rgb).resize(size, Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (2 * size[0] + _GAP, size[1]), "white")
    sheet.paste(_panel(image, zoom, truths), (0, 0))
    sheet.paste(_panel(image, zoom, found), (size[0] + _GAP, 0))
    return sheet


def save_picture(path: Path, sheet: Image.Image) -> None:
    """Writes a JPEG, whole or not at all."""
    write_atomically(path, lambda file: sheet.save(file, "JPEG", quality=85))
