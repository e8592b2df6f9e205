"""The category hierarchy: a directed acyclic graph over categories and virtual nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class RaggedIndex:
    """Rows of integers of different lengths, stored flat (compressed sparse rows).

    Attributes:
        offsets: (rows + 1,) int64; row ``i`` is ``indices[offsets[i]:offsets[i + 1]]``.
        indices: (entries,) int64.
    """

    offsets: np.ndarray
    indices: np.ndarray

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]]) -> RaggedIndex:
        """Packs a sequence of integer sequences."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        flat = [index for row in rows for index in row]
        return cls(offsets, np.asarray(flat, dtype=np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[RaggedIndex]) -> RaggedIndex:
        """The rows of all parts, one part after the other."""
        counts = [np.diff(part.offsets) for part in parts]
        offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))
        return cls(offsets, np.concatenate([np.empty(0, np.int64), *(p.indices for p in parts)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.indices[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: np.ndarray) -> RaggedIndex:
        """Some of the rows, (n,) in the given order."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        places = np.repeat(self.offsets[:-1][rows] - offsets[:-1], counts)
        return RaggedIndex(offsets, self.indices[places + np.arange(len(places))])


class CategoryHierarchy:
    """Parents and children of V categories, with virtual nodes in between where a tree has them.

    Nodes 0..V-1 are the categories by ``vocab_id``; nodes V..N-1 are virtual (they stand in the
    tree but are no category). A node may have several parents.

    Args:
        num_categories: V.
        parents: for each of the N nodes its direct parents, as node indices.
        levels: the depth of each node, 1 for a root. By default the longest path from a root, so
            that every child lies deeper than all of its parents. Sources that fix their own
            levels (the released V3Det table) pass them here.
        node_names: what the source calls the N nodes, or None; errors then name their indices.

    Raises:
        ValueError: a parent outside 0..N-1, fewer nodes than categories, a wrong number of
            levels, or a cycle (the cycle is named).
    """

    def __init__(
        self,
        num_categories: int,
        parents: Sequence[Sequence[int]],
        levels: Sequence[int] | None = None,
        node_names: Sequence[str] | None = None,
    ) -> None:
        if len(parents) < num_categories:
            raise ValueError(
                f"a hierarchy over {num_categories} categories needs at least as many nodes, "
                f"got {len(parents)}"
            )
        for node, row in enumerate(parents):
            for parent in row:
                if not 0 <= parent < len(parents):
                    raise ValueError(
                        f"node {node} has parent {parent}, expected 0..{len(parents) - 1}"
                    )
        self.num_categories = num_categories
        self.node_names = None if node_names is None else tuple(node_names)
        self.parents = RaggedIndex.from_rows([sorted(set(row)) for row in parents])
        order = self._topological_order(node_names)
        if levels is None:
            levels = self._longest_path_levels(order)
        elif len(levels) != len(parents):
            raise ValueError(f"got {len(levels)} levels for {len(parents)} nodes")
        self._parents_first = order
        self.levels = np.asarray(levels, dtype=np.int64)

    @classmethod
    def flat(cls, num_categories: int) -> CategoryHierarchy:
        """V categories without any relation."""
        return cls(num_categories, [()] * num_categories)

    @property
    def num_nodes(self) -> int:
        """N: categories and virtual nodes."""
        return len(self.parents)

    def extended(self, parents: Sequence[Sequence[int]]) -> CategoryHierarchy:
        """The hierarchy with n more categories behind the V; virtual nodes keep their place in it.

        Args:
            parents: the parents of each new category as vocab_ids, 0..V+n-1.

        Raises:
            ValueError: a parent that is no category, or a cycle.
        """
        old, new = self.num_categories, len(parents)
        for row in parents:
            if wrong := [parent for parent in row if not 0 <= parent < old + new]:
                raise ValueError(f"parents must be categories 0..{old + new - 1}, got {wrong}")
        rows: list[Sequence[int]] = [
            [node if node < old else node + new for node in self.parents[child].tolist()]
            for child in range(self.num_nodes)
        ]
        rows[old:old] = parents
        levels = np.insert(self.levels, [old] * new, 1)
        for node in CategoryHierarchy(old + new, rows)._parents_first:
            if old <= node < old + new and rows[node]:
                levels[node] = 1 + levels[list(rows[node])].max()
        return CategoryHierarchy(old + new, rows, levels.tolist())

    def branch(self, vocab_id: int) -> list[int]:
        """A category and all categories below it, ascending."""
        found, waiting = {vocab_id}, [vocab_id]
        while waiting:
            below = self.category_children[waiting.pop()].tolist()
            waiting += [child for child in below if child not in found]
            found.update(below)
        return sorted(found)

    def _topological_order(self, node_names: Sequence[str] | None) -> np.ndarray:
        """All nodes, every parent before its children."""
        waiting = np.diff(self.parents.offsets).copy()
        children = self.children
        ready = [node for node in range(self.num_nodes) if waiting[node] == 0]
        order: list[int] = []
        while ready:
            node = ready.pop()
            order.append(node)
            for child in children[node]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    ready.append(int(child))
        if len(order) < self.num_nodes:
            cycle = self._find_cycle(waiting > 0)
            names = [f"node {node_names[node] if node_names else node}" for node in cycle]
            raise ValueError(f"the hierarchy has a cycle: {' -> '.join(names)}")
        return np.asarray(order, dtype=np.int64)

    def _find_cycle(self, unresolved: np.ndarray) -> list[int]:
        """Walks up from an unresolved node until one repeats."""
        path = [int(np.flatnonzero(unresolved)[0])]
        while path[-1] not in path[:-1]:
            path.append(next(int(p) for p in self.parents[path[-1]] if unresolved[p]))
        return path[path.index(path[-1]) :]

    def _longest_path_levels(self, order: np.ndarray) -> np.ndarray:
        levels = np.ones(self.num_nodes, dtype=np.int64)
        for node in order:
            if len(self.parents[node]):
                levels[node] = 1 + levels[self.parents[node]].max()
        return levels

    @cached_property
    def children(self) -> RaggedIndex:
        """Direct children of each of the N nodes."""
        rows: list[list[int]] = [[] for _ in range(len(self.parents))]
        for node in range(len(self.parents)):
            for parent in self.parents[node]:
                rows[parent].append(node)
        return RaggedIndex.from_rows(rows)

    @cached_property
    def category_children(self) -> RaggedIndex:
        """For each category the nearest categories below it; virtual nodes are looked through."""
        below: list[list[int]] = [[] for _ in range(self.num_nodes)]
        for node in self._parents_first[::-1]:
            found: dict[int, None] = {}
            for child in self.children[node]:
                nearest = [int(child)] if child < self.num_categories else below[child]
                found.update(dict.fromkeys(nearest))
            below[node] = sorted(found)
        return RaggedIndex.from_rows(below[: self.num_categories])

    @cached_property
    def category_ancestors(self) -> RaggedIndex:
        """For each category all categories above it (transitive, itself excluded), ascending."""
        above: list[set[int]] = [set() for _ in range(self.num_nodes)]
        for node in self._parents_first:
            for parent in self.parents[node]:
                above[node] |= above[parent]
                if parent < self.num_categories:
                    above[node].add(int(parent))
        return RaggedIndex.from_rows([sorted(row) for row in above[: self.num_categories]])

    @cached_property
    def descendant_counts(self) -> np.ndarray:
        """(V,) number of category descendants, summed recursively over the direct children.

        A category that is reached by several paths counts once per path, as in the released code.
        """
        counts = np.zeros(self.num_categories, dtype=np.int64)
        for node in self._parents_first[::-1]:
            if node < self.num_categories:
                children = self.category_children[node]
                counts[node] = len(children) + counts[children].sum()
        return counts
