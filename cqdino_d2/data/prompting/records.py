"""Records of registered datasets for detectors that read words."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ..image_sizes import check_sizes
from ..loader import get_test_records
from ..records import Records
from ..registration import registered_prompt, registered_records
from ..text_records import PromptedSet, RecordsOfSets, TextRecords

logger = logging.getLogger(__name__)


def get_prompted_records(
    names: str | Sequence[str], *, wordings: bool = False, drop_brackets: bool = False
) -> RecordsOfSets:
    """The records of registered datasets with prompts, for detectors that read words.

    An image has its own text as its prompt, or else all categories of its dataset. Sets whose
    files are missing are left out with a warning.

    Args:
        names: one or several datasets, whose categories have nothing to do with each other.
        wordings: whether the sets' own wordings of their names are used (ODinW).
        drop_brackets: whether 'bow (weapon)' is asked for as 'bow', as MM-Grounding-DINO does.

    Returns:
        Records with 'prompt' and 'set_name'.

    Raises:
        ValueError: no dataset is named, or a file that cannot be understood.
        FileNotFoundError: the files of every one are missing.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError("no dataset is named")
    sets, missing = [], {}
    for name in names:
        try:
            records = get_test_records(name)
        except FileNotFoundError as error:
            missing[name] = str(error)
            continue
        own = isinstance(records, TextRecords)
        prompt = (
            None if own else registered_prompt(name, wordings=wordings, drop_brackets=drop_brackets)
        )
        sets.append(PromptedSet(name, records, prompt))
    if not sets:
        raise FileNotFoundError(
            f"none of the {len(names)} datasets is there; of {names[0]!r}: {missing[names[0]]}"
        )
    for name, problem in missing.items():
        logger.warning("the dataset %r is left out: %s", name, problem)
    return RecordsOfSets(sets)


def get_prompted_training_records(
    names: str | Sequence[str], filter_empty: bool = False
) -> RecordsOfSets:
    """The records of registered datasets for a training with prompts.

    Sets of categories and sets of texts may stand side by side; a set's category ids have nothing
    to do with another's. Crowd boxes stay in the records, as what they show is no negative; the
    mapper makes no target of them.

    Args:
        names: one or several datasets.
        filter_empty: whether images without boxes are dropped from sets of categories; kept, they
            teach what is not there.

    Returns:
        Records with 'set_name', and of sets of texts with 'prompt'; what was dropped is logged.

    Raises:
        ValueError: no dataset is named, one is named twice, a set has no record, or images have
            another size than their annotations say.
        FileNotFoundError: a file is missing.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected the names of datasets, each once, got {names}")
    sets = []
    for name in names:
        given = registered_records(name)
        records = given
        if filter_empty and isinstance(given, Records):
            records = given.select(
                np.flatnonzero(np.diff(given.without_crowd().categories().offsets))
            )
        logger.info(
            "%s: %d training images; dropped %d without boxes",
            name,
            len(records),
            len(given) - len(records),
        )
        if not len(records):
            raise ValueError(f"no training image in {name!r}: {len(given)} images listed")
        check_sizes(records)
        sets.append(PromptedSet(name, records))
    return RecordsOfSets(sets)
