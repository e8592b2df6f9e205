"""Sizes of images, from their own heads: where annotations do not tell them, or tell others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from ..annotations.columns import Annotations
from ..files.images import open_image

_ORIENTATION, _ON_ITS_SIDE = 0x0112, 5  # EXIF: from 5 on width and height change places
_NAMED = 3  # images that an error names
_READERS = 8  # threads: most of the time goes into waiting for disks
_MANY = 10_000  # images whose heads take long enough to show a bar, and that are asked for at once


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


def sizes_from_heads(file_names: Sequence[str]) -> tuple[np.ndarray, dict[int, str]]:
    """Sizes of many images in one go, from the heads of their files alone.

    Returns:
        (n, 2) int32 height and width of the upright images, 0 for those that tell none, and by
        their places why.
    """
    sizes, problems = np.zeros((len(file_names), 2), np.int32), {}
    hide = True if len(file_names) < _MANY else None  # None: where no terminal shows it
    bar = tqdm(desc="sizes", total=len(file_names), unit="image", mininterval=1.0, disable=hide)
    with ThreadPoolExecutor(_READERS) as pool, bar:
        for start in range(0, len(file_names), _MANY):
            some = file_names[start : start + _MANY]
            for place, size in enumerate(pool.map(_upright_size, some), start):
                bar.update()
                if isinstance(size, str):
                    problems[place] = size
                else:
                    sizes[place] = size
    return sizes, problems


def _upright_size(file_name: str) -> tuple[int, int] | str:
    """Height and width, or why they are not known; names the file."""
    try:
        return stored_and_upright_size(file_name)[1]
    except (OSError, ValueError) as error:
        said = str(error)
        return said if file_name in said else f"{file_name}: {said}"


def complete_sizes(annotations: Annotations, image_root: str) -> np.ndarray:
    """(I, 2) int32 height and width of all images; those that the file lacks from the images.

    Raises:
        ValueError: an image whose size is given nowhere; the image is named.
    """
    sizes = annotations.columns["sizes"]
    if not annotations.facts["unsized_images"]:
        return sizes
    sizes = sizes.copy()
    rows = np.flatnonzero(sizes[:, 0] == 0)
    names = [annotations.text("file_name", row) for row in rows.tolist()]
    found, problems = sizes_from_heads([os.path.join(image_root, name) for name in names])
    for place, problem in problems.items():
        raise ValueError(
            f"image {annotations.image_id(int(rows[place]))!r} has no 'height' and 'width', and "
            f"its file does not tell them: {problem}"
        )
    sizes[rows] = found
    return sizes


def wrong_size(record: Mapping[str, Any]) -> str:
    """How the size of a record differs from its image's; '' where it does not or is not given.

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
