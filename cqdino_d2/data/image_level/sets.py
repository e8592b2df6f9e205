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
        categories_of: without a file: the registered dataset whose categories the folders' names
            are (names, LVIS' synsets or ids).

    Raises:
        ValueError: both of the last two, or none; or the name is taken by a dataset that was not
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
    records = []
    for name in names:
        found, notes = records_with_notes(name, vocabulary)
        for note in notes:
            _LOGGER.warning("%s: %s", name, note)
        shown = len(np.unique(found.categories().indices))
        _LOGGER.info("%s: %d image-level images of %d categories", name, len(found), shown)
        records.append(found)
    together = Records.concatenate(records)
    check_sizes(together)
    return together


def records_with_notes(name: str, vocabulary: Vocabulary) -> tuple[Records, list[str]]:
    """The records of one set, and what was left out of it.

    Args:
        name: see `get_image_level_records`.
        vocabulary: likewise.

    Returns:
        The records, and a line for images that could not be read and for those without a label of
        the vocabulary, where there are any.

    Raises:
        ValueError, FileNotFoundError: see `get_image_level_records`.
    """
    if not is_image_level(name):
        raise ValueError(f"{name!r} is no image-level set: register_image_level registers one")
    facts, own = registered_annotations(name).facts, dataset_vocabulary(name)
    vocabulary.check_numbering(dict(zip(own.dataset_ids, own.names, strict=True)), name)
    vocab_id_of = np.asarray(
        [vocabulary.vocab_id_of.get(one, _LACKING) for one in own.dataset_ids], np.int32
    )
    given = registered_records(name)
    labels = given.categories().indices  # one of each image
    known = vocab_id_of[labels] != _LACKING
    notes = []
    unread, problems = facts["unreadable_images"]
    if unread:
        notes.append(f"{unread} images cannot be read and are left out: {'; '.join(problems)}")
    unknown, num_labels, shown = facts["unknown_labels"]
    lacking = [own.names[rank] for rank in np.unique(labels[~known]).tolist()]
    if skipped := unknown + int((~known).sum()):
        said = ", ".join(map(repr, [*shown, *lacking][:_NAMED]))
        notes.append(
            f"{skipped} of {len(given) + unknown} images have none of the vocabulary's "
            f"{len(vocabulary)} labels and are left out: {num_labels + len(lacking)} others, such "
            f"as {said}"
        )
    if not known.any():
        raise ValueError(
            f"image-level set {name!r} has no image to train with: "
            f"{'; '.join(notes) or 'it is empty'}"
        )
    return given.in_vocabulary(vocab_id_of).select(np.flatnonzero(known)), notes
