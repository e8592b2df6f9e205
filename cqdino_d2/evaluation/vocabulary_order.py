"""The category tree of a vocabulary in the order of an annotation file."""

from __future__ import annotations

from collections.abc import Sequence

from ..structures import CategoryHierarchy, Vocabulary


def hierarchy_in_order(vocabulary: Vocabulary, category_ids: Sequence[int]) -> CategoryHierarchy:
    """The hierarchy over other categories than the vocabulary's, or in another order.

    Args:
        vocabulary: with its hierarchy.
        category_ids: the wanted categories; those the vocabulary lacks get no relation, those it
            has beyond them become virtual nodes.
    """
    if tuple(category_ids) == vocabulary.dataset_ids:
        return vocabulary.hierarchy
    old = vocabulary.hierarchy
    wanted = [vocabulary.vocab_id_of.get(one) for one in category_ids]
    present = {node for node in wanted if node is not None}
    nodes = wanted + [node for node in range(old.num_nodes) if node not in present]
    place = {node: index for index, node in enumerate(nodes) if node is not None}
    parents = [[] if n is None else [place[p] for p in old.parents[n].tolist()] for n in nodes]
    levels = [1 if node is None else int(old.levels[node]) for node in nodes]
    return CategoryHierarchy(len(category_ids), parents, levels)
