"""Category hierarchies from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..structures import CategoryHierarchy
from .edge_lists import hierarchy_of_edges
from .json_file import read_json, require_file

_EDGE_TABLES = ("father2child", "child2father")


def _edges(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(parent, child) of every edge, in the file's order."""
    edges = [
        (str(parent), str(child))
        for parent, children in content["father2child"].items()
        for child in children
    ]
    edges += [
        (str(parent), str(child))
        for child, parents in content["child2father"].items()
        for parent in parents
    ]
    return edges


def read_v3det_tree(path: str | Path, layout: str = "") -> dict[str, Any]:
    """Reads a category tree JSON with V3Det's keys as it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a tree file.
    """
    path = require_file(path, layout)
    content = read_json(path)
    expected = ("categoryid2treeid", *_EDGE_TABLES)
    missing = [
        key
        for key in expected
        if not isinstance(content, dict) or not isinstance(content.get(key), dict)
    ]
    if missing:
        raise ValueError(f"{path} is no V3Det category tree: it lacks the tables {missing}")
    return content


def hierarchy_from_v3det_tree(
    path: str | Path, dataset_ids: Sequence[int], layout: str = ""
) -> CategoryHierarchy:
    """Reads a category tree JSON with V3Det's keys.

    Nodes that are no category of the vocabulary become virtual nodes; a node may have several
    parents. Categories that share a node get the same parents and children.

    Args:
        path: the tree file.
        dataset_ids: the category ids of the vocabulary, in the order of ``vocab_id``.
        layout: what to say about the expected layout if the file is missing.

    Returns:
        The hierarchy over the V = len(dataset_ids) categories.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a tree file, categories that the tree does not know (named), or a cycle.
    """
    content = read_v3det_tree(path, layout)
    node_of = content["categoryid2treeid"]
    unknown = [dataset_id for dataset_id in dataset_ids if str(dataset_id) not in node_of]
    if unknown:
        raise ValueError(
            f"{path} does not know {len(unknown)} of the {len(dataset_ids)} category ids of the "
            f"dataset: {unknown[:10]}; it knows {len(node_of)}"
        )
    category_nodes = [str(node_of[str(dataset_id)]) for dataset_id in dataset_ids]
    try:
        return hierarchy_of_edges(category_nodes, _edges(content))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
