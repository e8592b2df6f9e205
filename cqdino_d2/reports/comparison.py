"""An image's true boxes next to the detected ones, small enough for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..annotations import image_table
from ..annotations.ids import Id
from ..files import inside, write_atomically
from ..visualization.drawing import Colour, LabelledBox, draw_boxes, short

PANEL = 420  # pixels, the longer side of each of the two panels
_LARGEST_ZOOM = 4.0
_GAP = 6
_LONGEST_LABEL = 28
COLOURS: dict[str, Colour] = {
    "found": (46, 139, 87),
    "missed": (230, 126, 0),
    "hit": (46, 139, 87),
    "error": (214, 39, 40),
    "excused": (127, 140, 141),
    "other": (154, 165, 173),
}


@dataclass(frozen=True)
class DrawnBox:
    """A box of an image.

    Attributes:
        box_xywh_abs: in the image's pixels.
        label: '' for none.
        role: one of `COLOURS`.
        thick: whether the image is about it.
    """

    box_xywh_abs: Sequence[float]
    label: str
    role: str
    thick: bool = False


@dataclass(frozen=True)
class ImageFile:
    """Where an image lies.

    Attributes:
        root: folder of the images.
        name: below it, as the annotation file says.
        size: height and width its boxes are meant for, None where that is unknown.
    """

    root: Path
    name: str
    size: tuple[int, int] | None

    def path(self) -> Path:
        """The file.

        Raises:
            ValueError: the name leads out of the folder.
        """
        return inside(self.root, self.name)


def image_files(annotations: Path, folder: Path) -> dict[Id, ImageFile]:
    """The file of each image id of an annotation file.

    Args:
        annotations: in COCO's form; LVIS names the files by ``coco_url``.
        folder: what the file names are relative to.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: images have neither 'file_name' nor 'coco_url'.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder of images: {folder}")
    table = image_table(annotations)
    rows = zip(table.ids, table.file_names, table.sizes, strict=True)
    return {image_id: ImageFile(folder, name, size) for image_id, name, size in rows}


def _panel(image_rgb: np.ndarray, zoom: float, boxes: Sequence[DrawnBox]) -> np.ndarray:
    objects = []
    for box in sorted(boxes, key=lambda one: not one.thick):  # the first get the best places
        left, top, width, height = (zoom * value for value in box.box_xywh_abs)
        corners = (left, top, left + max(width, 0), top + max(height, 0))
        label = short(" ".join(box.label.split()), _LONGEST_LABEL)
        objects.append(LabelledBox(corners, label, COLOURS[box.role], box.thick))
    return draw_boxes(image_rgb, objects, min_side=1)


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
    image = np.asarray(Image.fromarray(image_rgb).resize(size, Image.Resampling.BICUBIC))
    sheet = Image.new("RGB", (2 * size[0] + _GAP, size[1]), "white")
    sheet.paste(Image.fromarray(_panel(image, zoom, truths)), (0, 0))
    sheet.paste(Image.fromarray(_panel(image, zoom, found)), (size[0] + _GAP, 0))
    return sheet


def save_picture(path: Path, sheet: Image.Image) -> None:
    """Writes a JPEG, whole or not at all."""
    write_atomically(path, lambda file: sheet.save(file, "JPEG", quality=85))
