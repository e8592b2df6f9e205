"""Registers sets of images with a label and no box, and makes records of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...structures import Vocabulary
from ..image_sizes import check_sizes
from ..records import Records
from ..registration import (
    dataset_vocabulary,
    is_image_level,
    register_source,
    registered_annotations,
    registered_records,
)
from ..sources import IMAGE_LEVEL, Source

_LOGGER = logging.getLogger(__name__)
_NAMED = 10  # labels that a warning names
_LACKING = -1


def register_image_level(
    name: str,
    image_root: str | Path,
    json_file: str | Path | None = None,
    *,
    categories_of: str | None = None,
) -> None:
    """Registers a set of images each of which has a label and no box.

    Its labels come from a file in the form of Detic's ``imagenet_lvis_image_info.json``, or are
    the names of the folders that hold the images: see `load_class_folders`. Nothing is read yet.

    Args:
        name: its name in Detectron2's catalogs.
        image_root: folder that the file names are relative to, or that holds a folder for each
            category.
        json_file: 'categories' and 'images', whose 'pos_category_ids' are their labels; the first
            one counts.
        categories_of: without a file: the registered data set whose categories the folders' names
            are (names, LVIS' synsets or ids).

    Raises:
        ValueError: both of the last two, or none; or the name is taken by a data set that was not
            registered here.
    """
    if (json_file is None) == (categories_of is None):
        raise ValueError(
            f"image-level set {name!r}: expected either a json_file with the labels or "
            f"categories_of, whose categories the folders are, got {json_file!r} and "
            f"{categories_of!r}"
        )
    root = str(Path(image_root).absolute())
    register_source(
        name,
        Source(
            json_file=root if json_file is None else str(Path(json_file).absolute()),
            image_root=root,
            evaluator_type=IMAGE_LEVEL,
            categories_of=categories_of,
        ),
    )


def get_image_level_records(names: str | Sequence[str], vocabulary: Vocabulary) -> Records:
    """The records of image-level sets, each with one box that is the whole image.

    Images whose label the vocabulary lacks are left out; a warning names some of the labels. So
    are images that could not be read when their sizes were looked for.

    Args:
        names: one or several sets of `register_image_level`, or 'imagenet_lvis_v1'.
        vocabulary: what 'category_id' refers to.

    Raises:
        ValueError: another set, no image is left, the ids of the set's categories are others than
            the vocabulary's, or images have another size than the file says.
        FileNotFoundError: a file is missing.
    """
    names = [names] if isinstance(names, str) else list(names)
    records = Records.concatenate(_records_of(name, vocabulary) for name in names)
    check_sizes(records)
    return records


def _records_of(name: str, vocabulary: Vocabulary) -> Records:
    if not is_image_level(name):
        raise ValueError(f"{name!r} is no image-level set: register_image_level registers one")
    facts, own = registered_annotations(name).facts, dataset_vocabulary(name)
    vocabulary.check_numbering(dict(zip(own.dataset_ids, own.names, strict=True)), name)
    vocab_id_of = np.asarray(
        [vocabulary.vocab_id_of.get(one, _LACKING) for one in own.dataset_ids], np.int32
    )
    given = registered_records(name)
    labels = given.categories().indices  # one of each image
    kept = np.flatnonzero(vocab_id_of[labels] != _LACKING)
    unknown, num_labels, shown = facts["unknown_labels"]
    lacking = np.unique(labels[vocab_id_of[labels] == _LACKING]).tolist()
    shown = [*shown, *(own.names[rank] for rank in lacking)][:_NAMED]
    skipped = unknown + len(given) - len(kept)
    about = (
        f"{skipped} of {len(given) + unknown} images have none of the vocabulary's "
        f"{len(vocabulary)} labels: {num_labels + len(lacking)} others, such as "
        f"{', '.join(map(repr, shown))}"
    )
    unread, problems = facts["unreadable_images"]
    if unread:
        said = "; ".join(problems)
        _LOGGER.warning("%s: %d images cannot be read and are left out: %s", name, unread, said)
    if not len(kept):
        raise ValueError(f"image-level set {name!r} has no image to train with: {about}")
    if skipped:
        _LOGGER.warning("%s: %s; they are left out", name, about)
    records = given.in_vocabulary(vocab_id_of).select(kept)
    _LOGGER.info(
        "%s: %d image-level images of %d categories",
        name,
        len(records),
        len(np.unique(vocab_id_of[labels[kept]])),
    )
    return records
