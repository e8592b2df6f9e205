"""Few images of a set in COCO's form that show each of its categories a number of times."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..annotations.json_file import read_json, require_file
from ..files import write_text


@dataclass(frozen=True)
class FewShot:
    """What was drawn.

    Attributes:
        content: of the annotation file, with few images and their boxes.
        short: boxes of the categories that have fewer than wanted, by name.
    """

    content: dict[str, Any]
    short: dict[str, int]


def few_shot(content: dict[str, Any], shots: int, seed: int | None) -> FewShot:
    """Takes images until each category has enough boxes, and all boxes of those.

    An image is taken where it shows a category that has too few boxes by then; crowd boxes do not
    count. A category that has too few boxes in all images has all of its images taken.

    Args:
        content: of a file in COCO's form; it stays as it is.
        shots: boxes wanted of each category, at least 1.
        seed: of the order in which images are looked at; None is the file's.

    Raises:
        ValueError: no shots, or content without COCO's lists.
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1, got {shots}")
    try:
        shown: dict[Any, list[Any]] = {}
        for row in content["annotations"]:
            if not row.get("iscrowd"):
                shown.setdefault(row["image_id"], []).append(row["category_id"])
        images = content["images"]
        names = {row["id"]: row["name"] for row in content["categories"]}
        order = range(len(images))
        if seed is not None:
            order = np.random.default_rng(seed).permutation(len(images)).tolist()
        found: Counter[Any] = Counter()
        taken = set()
        for place in order:
            own = shown.get(images[place]["id"], [])
            if any(found[category] < shots for category in own):
                found.update(own)
                taken.add(images[place]["id"])
        kept = {
            "images": [row for row in images if row["id"] in taken],
            "annotations": [row for row in content["annotations"] if row["image_id"] in taken],
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            "expected COCO's lists images (id), annotations (image_id, category_id) and categories "
            f"(id, name); this is not there: {error}"
        ) from error
    short = {name: found[key] for key, name in names.items() if found[key] < shots}
    return FewShot({**content, **kept}, short)


def draw_few_shot(source: Path, target: Path, shots: int, seed: int) -> FewShot:
    """Writes what `few_shot` draws of a file into another one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another form, or a target that is the source.
    """
    if target.resolve() == source.resolve():
        raise ValueError(f"{target} is the file to draw from: choose another --output")
    try:
        drawn = few_shot(read_json(require_file(source)), shots, seed)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    write_text(target, json.dumps(drawn.content, ensure_ascii=False))
    return drawn
