"""Images with a label and no box: a box that is the whole image stands for the label.

A set of them has the columns of any other annotation file. Images without a label of its categories
are left out; the facts say how many, and which labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..box_columns import AnnotationRow
from ..cache import Form, load_columns
from ..coco_format import checked_ids, columns_of_rows
from ..columns import FORMAT, Annotations
from ..ids import UNKNOWN, rows_of
from ..image_rows import AnyId, ImageRow, file_name, pixels
from ..json_file import read_json_as, without_garbage_collection

_NAMED = 10  # labels and images that the facts name

SizesOf = Callable[[Sequence[str]], tuple[np.ndarray, Mapping[int, str]]]
"""File names -> (n, 2) height and width, and what is wrong with those that tell none."""


class _LabelledRow(ImageRow, gc=False):
    pos_category_ids: list[AnyId] | None = None


class _Content(msgspec.Struct, gc=False):
    images: list[_LabelledRow] = []
    categories: list[dict[str, Any]] = []


def load_labelled_images(
    json_file: str | Path, layout: str = "", *, sizes_of: SizesOf, keep: bool = True
) -> Annotations:
    """The columns of a file such as Detic's ``imagenet_lvis_image_info.json``.

    Args:
        json_file: with 'categories' and 'images', whose 'pos_category_ids' are their labels: the
            first one is taken. Sizes that it lacks are those of the images.
        layout: what to say about the expected layout if it is missing.
        sizes_of: tells the sizes of images by their names in the file.
        keep: whether a cache is written where there is none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be understood.
    """
    form = Form(
        FORMAT,
        partial(read_labelled_images, sizes_of=sizes_of),
        Annotations,
        Annotations.of_cache,
        "image-level",
    )
    return load_columns(json_file, form, layout, keep=keep)


def read_labelled_images(
    json_file: Path, *, sizes_of: SizesOf
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same without a cache; see `columns_of_labels`.

    Raises:
        ValueError: as `load_labelled_images`.
    """
    source = str(json_file)
    with without_garbage_collection():
        content = read_json_as(json_file, _Content, "a list of images with 'pos_category_ids'")
        rows = content.categories
        ids = checked_ids(source, "categories", [row.get("id") for row in rows])
        given = [
            row.pos_category_ids[0] if row.pos_category_ids else None for row in content.images
        ]
        labelled = [place for place, label in enumerate(given) if label is not None]
        ranks = np.full(len(given), UNKNOWN, np.int32)
        row_of = {one: place for place, one in enumerate(ids)}
        ranks[labelled] = rows_of([given[place] for place in labelled], row_of)
        texts = ["(none)" if label is None else str(label) for label in given]
        return columns_of_labels(content.images, texts, ranks, rows, source, sizes_of)


def columns_of_labels(
    images: Sequence[ImageRow],
    labels: Sequence[str],
    ranks: np.ndarray,
    categories: Sequence[dict[str, Any]],
    source: str,
    sizes_of: SizesOf,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Columns of images with one label each, as `read_coco_format` has them.

    Args:
        images: I images; sizes that are not given are filled in.
        labels: (I,) texts, what each shows.
        ranks: (I,) place of each label among the categories, -1 for none of them.
        categories: category objects with an 'id'.
        source: what to call it in messages.
        sizes_of: tells the sizes of images by their names.

    Returns:
        Columns and facts of the images that have a category and a size; each has a box that is the
        whole image. Facts besides: 'unknown_labels', [images, labels, the first of these], and
        'unreadable_images', [images, what is wrong with the first].

    Raises:
        ValueError: no categories, or entries of one id that differ.
    """
    if not categories:
        raise ValueError(f"{source}: 'categories' must be a list of objects, it is empty")
    known = np.flatnonzero(ranks != UNKNOWN).tolist()
    problems = _fill_sizes([images[place] for place in known], sizes_of)
    kept = [place for number, place in enumerate(known) if number not in problems]
    boxes = {  # one of each image, also where entries are repeated
        images[place].id: _whole_image(images[place], categories[ranks[place]]["id"], number)
        for number, place in enumerate(kept, 1)
    }
    shown = [images[place] for place in kept]
    columns, facts = columns_of_rows(shown, list(categories), list(boxes.values()), source)
    unknown = Counter(labels[place] for place in np.flatnonzero(ranks == UNKNOWN).tolist())
    facts["unknown_labels"] = [unknown.total(), len(unknown), sorted(unknown)[:_NAMED]]
    facts["unreadable_images"] = [len(problems), list(problems.values())[:_NAMED]]
    return columns, facts


def _fill_sizes(images: Sequence[ImageRow], sizes_of: SizesOf) -> dict[int, str]:
    """Gives images their sizes; returns the places of those that tell none, and why."""
    unsized = [place for place, image in enumerate(images) if pixels(image) == (0, 0)]
    if not unsized:
        return {}
    sizes, problems = sizes_of([file_name(images[place])[0] for place in unsized])
    for place, (height, width) in zip(unsized, sizes.tolist(), strict=True):
        images[place].height, images[place].width = height, width
    return {unsized[number]: problem for number, problem in problems.items()}


def _whole_image(image: ImageRow, category_id: int | str, number: int) -> AnnotationRow:
    height, width = pixels(image)
    return AnnotationRow(image.id, category_id, (0.0, 0.0, width, height), id=number)
