"""The images of an annotation file: ids, file names and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from .ids import Id, as_id
from .image_rows import ImageRow, file_name, pixels
from .json_file import read_json_as, require_file


class _Images(msgspec.Struct, gc=False):
    images: list[ImageRow]


@dataclass(frozen=True)
class ImageTable:
    """I images in their file's order.

    Attributes:
        ids: as the file writes them.
        file_names: relative to the image root, of LVIS the last two parts of ``coco_url``.
        sizes: height and width, None where the file does not tell.
    """

    ids: tuple[Id, ...]
    file_names: tuple[str, ...]
    sizes: tuple[tuple[int, int] | None, ...]

    def __len__(self) -> int:
        return len(self.ids)


def image_table(json_file: str | Path) -> ImageTable:
    """The images of an annotation file in COCO's form; nothing else of it is read.

    Args:
        json_file: plain or gzipped; a byte-order mark is accepted.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no annotation file, or an image without a file name.
    """
    path = require_file(json_file)
    images = read_json_as(path, _Images, "in the COCO format").images
    names = []
    for image in images:
        name, problem = file_name(image)
        if problem:
            raise ValueError(f"{path}: {problem}")
        names.append(name)
    try:
        ids = tuple(as_id(image.id) for image in images)
    except ValueError as error:
        raise ValueError(f"{path} is not in the COCO format: {error}") from error
    sizes = map(pixels, images)
    known = tuple(size if size != (0, 0) else None for size in sizes)
    return ImageTable(ids, tuple(names), known)
