"""The image objects of annotation files: which fields are read, and what they may hold."""

from __future__ import annotations

from urllib.parse import urlparse

import msgspec

Number = int | float
AnyId = int | float | str
_LARGEST_SIDE = 2**31 - 1


class ImageRow(msgspec.Struct, gc=False):
    """What is read of an image object; other fields are skipped."""

    id: AnyId
    height: Number | str | None = None
    width: Number | str | None = None
    file_name: AnyId | None = None
    coco_url: AnyId | None = None
    neg_category_ids: list[AnyId] | None | msgspec.UnsetType = msgspec.UNSET
    not_exhaustive_category_ids: list[AnyId] | None | msgspec.UnsetType = msgspec.UNSET


def file_name(image: ImageRow) -> tuple[str, str]:
    """The name relative to the image root, and what is wrong with it ('' if nothing).

    LVIS names files by the last two parts of ``coco_url``.
    """
    given, field = image.file_name, "file_name"
    if given is None:
        given, field = image.coco_url, "coco_url"
    if given is None:
        return "", f"image {image.id!r} has neither 'file_name' nor 'coco_url'"
    if not isinstance(given, str):
        return "", f"image {image.id!r} has the {field!r} {given!r}, expected a text"
    if field == "file_name":
        return given, ""
    return "/".join(urlparse(given).path.split("/")[-2:]), ""


def pixels(image: ImageRow) -> tuple[int, int]:
    """Height and width; (0, 0) where they are not given or are no sizes."""
    height, width = _side(image.height), _side(image.width)
    return (height, width) if height and width else (0, 0)


def _side(value: Number | str | None) -> int:
    if type(value) is int:
        number = value
    else:
        try:
            number = float(value or 0)
        except ValueError:
            return 0
    return int(number) if 1 <= number <= _LARGEST_SIDE else 0
