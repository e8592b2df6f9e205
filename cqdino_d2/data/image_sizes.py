"""Sizes of images, from their own heads: where annotations do not tell them, or tell others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..annotations.columns import Annotations
from ..files.images import open_image

_ORIENTATION, _ON_ITS_SIDE = 0x0112, 5  # EXIF: from 5 on width and height change places
_NAMED = 3  # images that an error names


def stored_and_upright_size(file_name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of an image, without and with its EXIF orientation.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no image.
    """
    with open_image(file_name) as image:
        stored = image.height, image.width
        turned = image.getexif().get(_ORIENTATION, 1) >= _ON_ITS_SIDE
    return stored, stored[::-1] if turned else stored


def complete_sizes(annotations: Annotations, image_root: str) -> np.ndarray:
    """(I, 2) int32 height and width of all images; those that the file lacks from the images.

    Raises:
        ValueError: an image whose size is told nowhere; the image is named.
    """
    sizes = annotations.columns["sizes"]
    if not annotations.facts["unsized_images"]:
        return sizes
    sizes = sizes.copy()
    for row in np.flatnonzero(sizes[:, 0] == 0).tolist():
        try:
            path = os.path.join(image_root, annotations.text("file_name", row))
            _, sizes[row] = stored_and_upright_size(path)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"image {annotations.image_id(row)!r} has no 'height' and 'width', and its file "
                f"does not tell them: {error}"
            ) from error
    return sizes


def wrong_size(record: Mapping[str, Any]) -> str:
    """How the size of a record differs from its image's; '' where it does not or is not told.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no image.
    """
    if "height" not in record:
        return ""
    size = record["height"], record["width"]
    found = stored_and_upright_size(record["file_name"])
    if size in found:
        return ""
    height, width = found[1]
    return (
        f"image {record['image_id']}: {record['file_name']} is {width} x {height}, its "
        f"annotations say {size[1]} x {size[0]}"
    )


def check_sizes(records: Any, most: int = 200) -> None:
    """Compares some images, evenly spread, with their records; missing images are passed over.

    Args:
        records: a sequence of records.
        most: images to open.

    Raises:
        ValueError: some have another size; a few are named.
    """
    rows = np.unique(np.linspace(0, len(records) - 1, min(most, len(records))).astype(int))
    wrong = []
    for row in rows.tolist():
        try:
            wrong.append(wrong_size(records[row]))
        except (OSError, ValueError):
            continue  # the mapper names an image that it cannot read
    if wrong := [problem for problem in wrong if problem]:
        raise ValueError(
            f"{len(wrong)} of {len(rows)} images looked at have another size than their "
            f"annotations say: {'; '.join(wrong[:_NAMED])} (check_dataset.py --images all names "
            "every one)"
        )
