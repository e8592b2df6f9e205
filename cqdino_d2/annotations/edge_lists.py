"""Category hierarchies from edges between named nodes, as WordNet's 'is a' lists have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..structures import CategoryHierarchy
from .json_file import require_file


def hierarchy_of_edges(
    category_nodes: Sequence[str], edges: Iterable[tuple[str, str]]
) -> CategoryHierarchy:
    """Relates categories by edges between named nodes.

    Nodes that are no category become virtual nodes; a node may have several parents. Categories
    that share a node get the same parents and children.

    Args:
        category_nodes: the node of each of the V categories, in the order of ``vocab_id``.
        edges: (parent, child); repeated ones count once.

    Raises:
        ValueError: a cycle, named by its nodes.
    """
    indices_of: dict[str, list[int]] = {}
    for vocab_id, node in enumerate(category_nodes):
        indices_of.setdefault(node, []).append(vocab_id)
    edges = list(dict.fromkeys(edges))
    num_nodes = len(category_nodes)
    for node in dict.fromkeys(node for edge in edges for node in edge):
        if node not in indices_of:
            indices_of[node] = [num_nodes]
            num_nodes += 1
    names = [""] * num_nodes
    parents: list[list[int]] = [[] for _ in range(num_nodes)]
    for node, indices in indices_of.items():
        for index in indices:
            names[index] = node
    for parent, child in edges:
        for index in indices_of[child]:
            parents[index] += indices_of[parent]
    return CategoryHierarchy(len(category_nodes), parents, node_names=names)


def _read_edges(path: Path) -> Iterator[tuple[str, str]]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            nodes = text.split("\t") if "\t" in text else text.split()
            if len(nodes) != 2:
                raise ValueError(
                    f"{path}, line {number}: expected 'parent child' (or two names with a tab "
                    f"between them), got {text[:100]!r}"
                )
            yield nodes[0].strip(), nodes[1].strip()


def hierarchy_from_edge_list(
    path: str | Path, category_nodes: Sequence[str], layout: str = ""
) -> CategoryHierarchy:
    """Reads a text file with an edge 'parent child' per line, as WordNet's 'is a' lists are.

    A tab parts names that contain spaces; empty lines and lines that begin with '#' are skipped.
    Categories without an edge stay unrelated.

    Args:
        path: the file.
        category_nodes: the node of each of the V categories, in the order of ``vocab_id``.
        layout: what to say about the expected layout if the file is missing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is no edge, a cycle (named), or a file that names none of the
            categories.
    """
    path = require_file(path, layout)
    try:
        edges = list(_read_edges(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}") from error
    known = {node for edge in edges for node in edge}
    if not known.intersection(category_nodes):
        raise ValueError(
            f"{path} names none of the {len(category_nodes)} categories: it has nodes like "
            f"{sorted(known)[:3]}, the categories {list(category_nodes)[:3]}"
        )
    try:
        return hierarchy_of_edges(category_nodes, edges)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
