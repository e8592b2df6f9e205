"""The category table that comes with the released CQ-DINO code."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..structures import CategoryHierarchy
from .json_file import require_file

logger = logging.getLogger(__name__)

COLUMNS = (
    "level",
    "id",
    "category id",
    "English name",
    "Chinese name",
    "English description",
    "Chinese description",
    "parent id",
    "direct children",
    "ancestor category ids",
)
_ITEM = re.compile(r"""[^\s,;|\[\](){}'"]+""")
_NOTHING = {"", "-1", "nan", "none", "null"}


@dataclass(frozen=True)
class TreeRow:
    """One line of the table; ids are the texts of the file.

    Attributes:
        level: depth, 1 for a root.
        node_id: of the node.
        category_id: the dataset's id, None where the node is no category.
        name: in English.
        parents: ids of the nodes above (roots name something that is no node).
        children: ids of the direct children, as node ids or as category ids.
    """

    level: int
    node_id: str
    category_id: int | None
    name: str
    parents: tuple[str, ...]
    children: tuple[str, ...]


def read_released_table(path: str | Path, layout: str = "") -> list[TreeRow]:
    """Reads the table; a header line is skipped.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that does not have the ten columns or whose numbers are none, or an id
            that stands there twice; names the line.
    """
    path = require_file(path, layout)
    rows: list[TreeRow] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for cells in reader:
                if not cells or (reader.line_num == 1 and not cells[0].strip().isdigit()):
                    continue
                rows.append(_row(cells, f"{path}, line {reader.line_num}"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not rows:
        raise ValueError(f"{path} has no lines; expected the columns {', '.join(COLUMNS)}")
    _refuse_repeated(path, [row.node_id for row in rows], "id")
    _refuse_repeated(
        path, [row.category_id for row in rows if row.category_id is not None], "category id"
    )
    return rows


def _row(cells: Sequence[str], where: str) -> TreeRow:
    if len(cells) != len(COLUMNS):
        raise ValueError(
            f"{where}: {len(cells)} columns found, {len(COLUMNS)} expected ({', '.join(COLUMNS)})"
        )
    level, node_id, category_id, name = (cell.strip() for cell in cells[:4])
    try:
        return TreeRow(
            level=int(float(level)),
            node_id=node_id,
            category_id=None if category_id.lower() in _NOTHING else int(float(category_id)),
            name=name,
            parents=_items(cells[7]),
            children=_items(cells[8]),
        )
    except ValueError as error:
        raise ValueError(f"{where}: 'level' and 'category id' must be numbers: {error}") from error


def _items(cell: str) -> tuple[str, ...]:
    return tuple(item for item in _ITEM.findall(cell) if item.lower() not in _NOTHING)


def _refuse_repeated(path: Path, values: Sequence[str | int], column: str) -> None:
    seen: set[str | int] = set()
    repeated = [value for value in values if value in seen or seen.add(value)]
    if repeated:
        raise ValueError(f"{path}: the column {column!r} has {repeated[:10]} more than once")


def hierarchy_from_released_table(
    path: str | Path, dataset_ids: Sequence[int], layout: str = ""
) -> CategoryHierarchy:
    """The hierarchy of the released table, with the levels that it states.

    The direct children are those of the column of that name, which is what the released code
    averages; where it names category ids instead of node ids is found out by comparing it with
    the parents. A parent column that says something else is reported in the log.

    Args:
        path: the CSV file.
        dataset_ids: the category ids of the vocabulary, in the order of ``vocab_id``.
        layout: what to say about the expected layout if the file is missing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a table, categories that it lacks, children that are no nodes, or a
            cycle.
    """
    rows = read_released_table(path, layout)
    rank = {dataset_id: vocab_id for vocab_id, dataset_id in enumerate(dataset_ids)}
    known = {row.category_id for row in rows}
    if missing := [dataset_id for dataset_id in dataset_ids if dataset_id not in known]:
        raise ValueError(
            f"{path} does not know {len(missing)} of the {len(dataset_ids)} category ids of the "
            f"dataset: {missing[:10]}"
        )
    virtual = [i for i, row in enumerate(rows) if row.category_id not in rank]
    node_of_row = {line: len(rank) + place for place, line in enumerate(virtual)}
    node_of_row |= {i: rank[row.category_id] for i, row in enumerate(rows) if i not in node_of_row}
    parents: list[list[int]] = [[] for _ in rows]
    levels = [0] * len(rows)
    for line, row in enumerate(rows):
        levels[node_of_row[line]] = row.level
    for parent, child in _edges(Path(path), rows):
        parents[node_of_row[child]].append(node_of_row[parent])
    names = [""] * len(rows)
    for line, row in enumerate(rows):
        names[node_of_row[line]] = row.node_id
    try:
        return CategoryHierarchy(len(rank), parents, levels, node_names=names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _edges(path: Path, rows: Sequence[TreeRow]) -> set[tuple[int, int]]:
    """(line of the parent, line of the child) of every edge."""
    by_node = {row.node_id: line for line, row in enumerate(rows)}
    by_category = {
        str(row.category_id): line for line, row in enumerate(rows) if row.category_id is not None
    }
    upward = {
        (by_node[parent], line)
        for line, row in enumerate(rows)
        for parent in row.parents
        if parent in by_node
    }
    readings = []
    for lookup in (by_node, by_category):
        if all(child in lookup for row in rows for child in row.children):
            edges = {(i, lookup[child]) for i, row in enumerate(rows) for child in row.children}
            readings.append(edges)
    if not readings:
        unknown = [c for row in rows for c in row.children if c not in by_node | by_category]
        raise ValueError(f"{path}: direct children that are no nodes of the table: {unknown[:10]}")
    downward = max(readings, key=lambda edges: len(edges & upward))
    if downward != upward:
        logger.warning(
            "%s: its columns 'direct children' (%d edges, used) and 'parent id' (%d edges) share "
            "only %d edges",
            path,
            len(downward),
            len(upward),
            len(downward & upward),
        )
    return downward
