"""EmojiDet's JSON files: the category tree as V3Det writes it, annotations with LVIS' fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .artwork import Subject
from .compose import PlacedObject

_NEGATIVES_PER_IMAGE = 10
_NOVEL_SHARE = 0.25
_SHOWN = ("emoji.", "icon.")  # how keys of categories begin that are no groups


@dataclass(frozen=True)
class _Node:
    """One node of the tree: a group, a sub-group or an emoji."""

    key: str
    name: str
    parent: str | None
    synonyms: tuple[str, ...]
    description: str


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _nodes(subjects: Sequence[Subject]) -> tuple[list[_Node], list[_Node]]:
    """The nodes of the subjects, in their order, and the interior ones, groups first."""
    groups: dict[str, _Node] = {}
    subgroups: dict[str, _Node] = {}
    leaves = []
    for one in subjects:
        group_key = f"group.{_slug(one.group)}"
        subgroup_key = f"subgroup.{_slug(one.subgroup)}"
        name = one.group.lower()
        groups[group_key] = _Node(group_key, name, None, (name,), f"{one.kind} of the group {name}")
        subgroups[subgroup_key] = _Node(
            subgroup_key,
            one.subgroup,
            group_key,
            (one.subgroup,),
            f"{one.kind} of the sub-group {one.subgroup} in the group {name}",
        )
        leaves.append(
            _Node(
                one.key,
                one.name,
                subgroup_key,
                one.synonyms,
                f"the {one.kind} {one.name}, sub-group {one.subgroup} of the group {name}",
            )
        )
    return leaves, [*groups.values(), *subgroups.values()]


def _category_nodes(subjects: Sequence[Subject], interior_categories: bool) -> list[_Node]:
    """The nodes that are categories, by ascending category id (1, 2, ...)."""
    leaves, interior = _nodes(subjects)
    return leaves + interior if interior_categories else leaves


def category_tree(
    subjects: Sequence[Subject], interior_categories: bool
) -> dict[str, dict[str, Any]]:
    """The content of the category tree JSON, with V3Det's keys.

    Args:
        subjects: the categories that are shown, in the order of their ids 1, 2, ...
        interior_categories: whether groups and sub-groups are categories as well.

    Returns:
        A dict of dicts keyed by strings; a top node has no entry in ``child2father``.
    """
    leaves, interior = _nodes(subjects)
    nodes = {node.key: node for node in interior + leaves}
    children: dict[str, list[str]] = {}
    ancestors: dict[str, list[str]] = {}
    descendants: dict[str, list[str]] = {}
    for key, node in nodes.items():
        if node.parent is None:
            continue
        children.setdefault(node.parent, []).append(key)
        above: str | None = node.parent
        while above is not None:
            ancestors.setdefault(key, []).append(above)
            descendants.setdefault(above, []).append(key)
            above = nodes[above].parent
    categories = _category_nodes(subjects, interior_categories)
    return {
        "categoryid2treeid": {str(index): node.key for index, node in enumerate(categories, 1)},
        "id2name": {key: node.name for key, node in nodes.items()},
        "id2desc": {key: node.description for key, node in nodes.items()},
        "id2synonym_list": {key: list(node.synonyms) for key, node in nodes.items()},
        "id2center_synonym": {key: node.synonyms[0] for key, node in nodes.items()},
        "father2child": children,
        "child2father": {key: [node.parent] for key, node in nodes.items() if node.parent},
        "ancestor2descendant": descendants,
        "descendant2ancestor": ancestors,
    }


def lvis_frequency(image_count: int) -> str:
    """'r' (rare) up to 10 training images, 'c' (common) up to 100, 'f' (frequent) above."""
    if image_count <= 10:
        return "r"
    return "c" if image_count <= 100 else "f"


def novel_emoji(count: int, seed: int) -> np.ndarray:
    """(count,) bool, a quarter of the emoji, chosen by the seed."""
    return np.random.default_rng([seed, 3]).permutation(count) < _NOVEL_SHARE * count


def category_table(
    subjects: Sequence[Subject],
    interior_categories: bool,
    train_objects: Iterable[Sequence[PlacedObject]],
    seed: int,
) -> list[dict[str, Any]]:
    """The ``categories`` of the annotation files; counts are those of the training images.

    Those of `novel_emoji` are marked novel.
    """
    images: Counter[int] = Counter()
    instances: Counter[int] = Counter()
    for objects in train_objects:
        instances.update(placed.category for placed in objects)
        images.update({placed.category for placed in objects})
    novel = novel_emoji(len(subjects), seed)
    return [
        {
            "id": index + 1,
            "name": node.name,
            "cat_info": node.description,
            "novel": bool(index < len(subjects) and novel[index]),
            "synset": f"{node.key}.01",
            "synonyms": list(node.synonyms),
            "def": node.description,
            "frequency": lvis_frequency(images[index]),
            "image_count": images[index],
            "instance_count": instances[index],
        }
        for index, node in enumerate(_category_nodes(subjects, interior_categories))
    ]


def annotation_file(
    split: str,
    image_size: int,
    categories: list[dict[str, Any]],
    image_objects: Sequence[Sequence[PlacedObject]],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The content of ``emojidet_<split>.json``.

    ``neg_category_ids`` names some of the categories that an image does not show. As every object
    that shows has its box, ``not_exhaustive_category_ids`` is empty.

    Args:
        split: 'train' or 'val'.
        image_size: side of the images in pixels.
        categories: what `category_table` returned.
        image_objects: the objects of each image, in the order of the files.
        rng: source of the negative categories.
    """
    leaf_ids = np.asarray([row["id"] for row in categories if row["synset"].startswith(_SHOWN)])
    images, annotations = [], []
    for image_id, objects in enumerate(image_objects, 1):
        drawn = rng.choice(leaf_ids, min(_NEGATIVES_PER_IMAGE, len(leaf_ids)), replace=False)
        present = {placed.category + 1 for placed in objects}
        images.append(
            {
                "id": image_id,
                "file_name": f"images/{split}/{image_id:06d}.png",
                "height": image_size,
                "width": image_size,
                "neg_category_ids": sorted(set(drawn.tolist()) - present),
                "not_exhaustive_category_ids": [],
            }
        )
        for placed in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": placed.category + 1,
                    "bbox": list(placed.box_xywh_abs),
                    "area": placed.box_xywh_abs[2] * placed.box_xywh_abs[3],
                    "iscrowd": 0,
                }
            )
    return {
        "info": {"description": f"EmojiDet {split}"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
