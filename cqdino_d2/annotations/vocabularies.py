"""Vocabularies and category trees in any of the forms in which they come as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..structures import CategoryHierarchy, Vocabulary, one_line
from .cache import load_annotations
from .edge_lists import hierarchy_from_edge_list
from .released_tree import hierarchy_from_released_table, read_released_table
from .v3det_tree import hierarchy_from_v3det_tree, read_v3det_tree


def hierarchy_from_file(
    path: str | Path,
    dataset_ids: Sequence[int],
    layout: str = "",
    *,
    category_nodes: Sequence[str] | None = None,
) -> CategoryHierarchy:
    """Reads V3Det's tree JSON, the released category table or an edge list.

    The name tells them apart: ``*.json``, ``*.csv``, or anything else for the edge list, a text
    file with 'parent child' in each line (see `hierarchy_from_edge_list`).

    Args:
        path: the file.
        dataset_ids: the category ids of the vocabulary, in the order of ``vocab_id``.
        layout: what to say about the expected layout if the file is missing.
        category_nodes: what an edge list calls each category; by default its id.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or a tree that does not fit the categories.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        return hierarchy_from_released_table(path, dataset_ids, layout)
    if suffix == ".json":
        return hierarchy_from_v3det_tree(path, dataset_ids, layout)
    nodes = category_nodes or [str(dataset_id) for dataset_id in dataset_ids]
    return hierarchy_from_edge_list(path, nodes, layout)


def vocabulary_from_tree(path: str | Path) -> Vocabulary:
    """All categories that a tree file knows, by ascending id, with its names and its hierarchy.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a tree file.
    """
    if Path(path).suffix.lower() == ".csv":
        rows = read_released_table(path)
        names = {row.category_id: one_line(row.name) for row in rows if row.category_id is not None}
    else:
        content = read_v3det_tree(path)
        name_of_node = content.get("id2name") or {}
        names = {
            int(dataset_id): category_name({"id": dataset_id, "name": name_of_node.get(str(node))})
            for dataset_id, node in content["categoryid2treeid"].items()
        }
    dataset_ids = tuple(sorted(names))
    hierarchy = hierarchy_from_file(path, dataset_ids)
    return Vocabulary(tuple(names[i] for i in dataset_ids), dataset_ids, hierarchy)


def category_name(category: Mapping[str, Any]) -> str:
    """What to call a category object: its name on one line, or 'category ID'."""
    return one_line(str(category.get("name") or "")) or f"category {category['id']}"


def _whole_number(one: int | str) -> int:
    """A category id; one that is written as a text counts as the number that it spells."""
    number = int(one) if str(one).removeprefix("-").isdecimal() else None
    if number is None or str(number) != str(one):
        raise ValueError(f"category ids must be whole numbers, got {one!r}")
    return number


def vocabulary_of_categories(
    categories: Sequence[Mapping[str, Any]],
    tree_file: str | Path | None = None,
    *,
    node_field: str = "id",
    layout: str = "",
) -> Vocabulary:
    """The vocabulary of category objects in COCO's form.

    Args:
        categories: by ascending 'id'; one without a name is called 'category ID'.
        tree_file: their tree, see `hierarchy_from_file`; None makes them unrelated.
        node_field: the field that names a category's node in an edge list.
        layout: what to say about the expected layout if a file is missing.

    Raises:
        FileNotFoundError: the tree file is missing.
        ValueError: a tree file that cannot be understood or does not fit, or categories without
            the field.
    """
    dataset_ids = tuple(_whole_number(row["id"]) for row in categories)
    names = tuple(map(category_name, categories))
    if tree_file is None:
        return Vocabulary(names, dataset_ids, CategoryHierarchy.flat(len(categories)))
    if lacking := [row["id"] for row in categories if node_field not in row]:
        raise ValueError(
            f"{len(lacking)} categories have no field {node_field!r} to find them by in "
            f"{tree_file}: ids {lacking[:10]}"
        )
    nodes = [str(row[node_field]) for row in categories]
    hierarchy = hierarchy_from_file(tree_file, dataset_ids, layout, category_nodes=nodes)
    return Vocabulary(names, dataset_ids, hierarchy)


def vocabulary_from_annotations(
    json_file: str | Path, tree_file: str | Path | None = None, layout: str = ""
) -> Vocabulary:
    """The categories of an annotation file in COCO's form, by ascending id.

    Args:
        json_file: the annotation file (see `load_annotations`).
        tree_file: their tree, see `hierarchy_from_file`; None makes them unrelated.
        layout: what to say about the expected layout if a file is missing.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file that cannot be understood, or a tree that does not fit.
    """
    categories = load_annotations(json_file, layout).categories()
    return vocabulary_of_categories(categories, tree_file, layout=layout)
