"""Vocabularies and category trees in any of the forms in which they come as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..structures import CategoryHierarchy, Vocabulary
from .coco_format import read_categories
from .hierarchy_files import hierarchy_from_v3det_tree, read_v3det_tree
from .released_tree import hierarchy_from_released_table, read_released_table


def hierarchy_from_file(
    path: str | Path, dataset_ids: Sequence[int], layout: str = ""
) -> CategoryHierarchy:
    """Reads V3Det's tree JSON or, from a file named ``*.csv``, the released category table.

    Args:
        path: the file.
        dataset_ids: the category ids of the vocabulary, in the order of ``vocab_id``.
        layout: what to say about the expected layout if the file is missing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or a tree that does not fit the categories.
    """
    if Path(path).suffix.lower() == ".csv":
        return hierarchy_from_released_table(path, dataset_ids, layout)
    return hierarchy_from_v3det_tree(path, dataset_ids, layout)


def vocabulary_from_tree(path: str | Path) -> Vocabulary:
    """All categories that a tree file knows, by ascending id, with its names and its hierarchy.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a tree file.
    """
    if Path(path).suffix.lower() == ".csv":
        rows = read_released_table(path)
        names = {row.category_id: row.name for row in rows if row.category_id is not None}
    else:
        content = read_v3det_tree(path)
        name_of_node = content.get("id2name") or {}
        names = {
            int(dataset_id): str(name_of_node.get(str(node), f"category {dataset_id}"))
            for dataset_id, node in content["categoryid2treeid"].items()
        }
    dataset_ids = tuple(sorted(names))
    hierarchy = hierarchy_from_file(path, dataset_ids)
    return Vocabulary(tuple(names[i] for i in dataset_ids), dataset_ids, hierarchy)


def vocabulary_from_annotations(
    json_file: str | Path, tree_file: str | Path | None = None, layout: str = ""
) -> Vocabulary:
    """The categories of an annotation file in COCO's form, by ascending id.

    Args:
        json_file: the annotation file; only its categories are read.
        tree_file: their tree, see `hierarchy_from_file`; None makes them unrelated.
        layout: what to say about the expected layout if a file is missing.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file that cannot be understood, or a tree that does not fit.
    """
    categories = read_categories(json_file, layout)
    dataset_ids = tuple(int(row["id"]) for row in categories)
    names = tuple(str(row.get("name", f"category {row['id']}")) for row in categories)
    if tree_file is None:
        return Vocabulary(names, dataset_ids, CategoryHierarchy.flat(len(categories)))
    return Vocabulary(names, dataset_ids, hierarchy_from_file(tree_file, dataset_ids, layout))
