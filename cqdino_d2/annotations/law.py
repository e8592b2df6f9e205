"""What of an annotation file is refused, and by whom.

The reader keeps what can be read. A training (and with it `check_dataset` and the demo, which take
the same datasets) refuses what most likely is a mistake; an evaluation scores what the original
evaluations score, and says what they make of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .columns import Annotations

_LOGGER = logging.getLogger(__name__)
_KINDS = {"unlisted_images": "image", "unlisted_categories": "category id"}


def refuse_for_training(annotations: Annotations, source: str) -> None:
    """Makes sure that a training can use a file, as its training or its test set.

    Args:
        annotations: of the file.
        source: what to call it in messages.

    Raises:
        ValueError: annotations of images or categories that are not listed, or an image without
            a file name.
    """
    facts = annotations.facts
    listed = {"unlisted_images": len(annotations)}
    for fact, kind in _KINDS.items():
        if not facts[fact]:
            continue
        count, annotation, one = facts[fact]
        there = listed.get(fact, len(annotations.category_ids))
        raise ValueError(
            f"{source}: annotation {annotation!r} belongs to {kind} {one!r}, which is not listed "
            f"({count} such annotations; {there} are listed)"
        )
    if facts["unnamed_images"]:
        raise ValueError(f"{source}: {facts['unnamed_images'][0]}")


def refuse_for_scoring(facts: Mapping[str, Any], source: str) -> None:
    """Makes sure that a file can be scored, and warns of what people may not expect.

    Args:
        facts: of the file.
        source: what to call it in messages.

    Raises:
        ValueError: boxes that are not finite numbers.
    """
    count, ids = facts["endless_boxes"]
    if count:
        raise ValueError(f"{source}: {count} boxes are not finite, of the annotations {ids}")
    unlisted = sum(facts[fact][0] for fact in _KINDS if facts[fact])
    if unlisted:
        _LOGGER.warning(
            "%s: %d boxes are of images or categories that it does not list; they are left out",
            source,
            unlisted,
        )
    if facts["repeated_ids"]:
        _LOGGER.warning(
            "%s: %d annotations have the id of another one; all are numbered anew. pycocotools and "
            "lvis-api would take one for the other and give other figures",
            source,
            facts["repeated_ids"],
        )
    if facts["zero_ids"]:
        _LOGGER.warning(
            "%s: the annotation with the id 0 can never be found, as in pycocotools; number the "
            "annotations from 1",
            source,
        )
