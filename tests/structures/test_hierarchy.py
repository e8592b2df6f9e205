import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cqdino_d2.structures import (
    CategoryHierarchy,
    RaggedIndex,
    Vocabulary,
    gather_rows,
    load_vocabulary,
    random_vocabulary,
)

# 0 -> {1, 2}, 1 -> 3, 2 -> 3 (two parents), node 5 is virtual between 0 and 4
PARENTS = [[], [0], [0], [1, 2], [5], [0]]


@pytest.fixture
def hierarchy():
    return CategoryHierarchy(5, PARENTS)


def rows(index):
    return [index[i].tolist() for i in range(len(index))]


def test_levels_are_the_longest_path(hierarchy):
    assert hierarchy.levels.tolist() == [1, 2, 2, 3, 3, 2]


def test_virtual_nodes_are_looked_through(hierarchy):
    assert rows(hierarchy.category_children) == [[1, 2, 4], [3], [3], [], []]
    assert rows(hierarchy.category_ancestors) == [[], [0], [0], [0, 1, 2], [0]]


def test_descendants_count_once_per_path(hierarchy):
    assert hierarchy.descendant_counts.tolist() == [5, 1, 1, 0, 0]


def test_a_cycle_is_named():
    with pytest.raises(ValueError, match=r"cycle: node \d -> node \d -> node \d"):
        CategoryHierarchy(3, [[], [2], [1]])


@pytest.mark.parametrize(
    ("count", "parents", "levels", "message"),
    [
        (2, [[], [7]], None, "node 1 has parent 7"),
        (3, [[], []], None, "at least as many nodes"),
        (2, [[], []], [1], "1 levels for 2 nodes"),
    ],
)
def test_bad_trees_are_refused(count, parents, levels, message):
    with pytest.raises(ValueError, match=message):
        CategoryHierarchy(count, parents, levels)


def test_a_vocabulary_survives_its_file(hierarchy, tmp_path):
    vocabulary = Vocabulary(("dog", "dog", "cat", "poodle", "ü"), (3, 1, 7, 9, 4), hierarchy)
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    loaded = load_vocabulary(path)
    assert loaded.names == vocabulary.names and loaded.dataset_ids == vocabulary.dataset_ids
    assert rows(loaded.hierarchy.parents) == rows(hierarchy.parents)
    assert [p.name for p in tmp_path.iterdir()] == ["vocabulary.json"]


def test_what_is_no_vocabulary_is_refused(tmp_path):
    path = tmp_path / "x.json"
    for text in ("[1, 2]", '{"names": ["a"]}', '{"names": '):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"x\.json is not a vocabulary"):
            load_vocabulary(path)


def test_a_vocabulary_needs_unique_ids():
    with pytest.raises(ValueError, match="unique"):
        Vocabulary(("a", "b"), (1, 1), CategoryHierarchy.flat(2))


def test_random_vocabularies_are_trees():
    vocabulary = random_vocabulary(21, branching=4)
    assert len(vocabulary) == 21
    assert vocabulary.hierarchy.levels.max() == 3


def test_rows_are_gathered_as_by_hand():
    index = RaggedIndex.from_rows([[5, 6], [], [7], [8, 9, 1]])
    wanted = [3, 1, 0, 3, 2, 1]
    values, place = gather_rows(
        torch.from_numpy(index.offsets), torch.from_numpy(index.indices), torch.tensor(wanted)
    )
    expected = [(value, i) for i, row in enumerate(wanted) for value in index[row].tolist()]
    assert list(zip(values.tolist(), place.tolist(), strict=True)) == expected
    assert rows(index.take(np.asarray(wanted))) == [index[row].tolist() for row in wanted]
    both = RaggedIndex.concatenate([index, RaggedIndex.from_rows([]), index])
    assert rows(both) == rows(index) * 2
    none = torch.empty(0, dtype=torch.int64)
    found = gather_rows(torch.from_numpy(index.offsets), torch.from_numpy(index.indices), none)
    assert [len(part) for part in found] == [0, 0]


def test_a_cycle_is_named_by_its_names():
    with pytest.raises(
        ValueError, match="cycle: (node b -> node c -> node b|node c -> node b -> node c)$"
    ):
        CategoryHierarchy(1, [[], [2], [1]], node_names=["a", "b", "c"])


@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_levels_and_relations_of_random_graphs(count, seed):
    """Against the definitions, on nodes in any order."""
    rng = np.random.default_rng(seed)
    rank = rng.permutation(count)  # edges lead from a lower to a higher rank
    parents = [
        [p for p in range(count) if rank[p] < rank[node] and rng.random() < 0.2]
        for node in range(count)
    ]
    categories = int(rng.integers(1, count + 1))
    graph = CategoryHierarchy(categories, parents)

    def level(node):
        return 1 + max((level(parent) for parent in parents[node]), default=0)

    def ancestors(node):
        return set(parents[node]).union(*(ancestors(parent) for parent in parents[node]))

    assert graph.levels.tolist() == [level(node) for node in range(count)]
    for node in range(categories):
        expected = sorted(a for a in ancestors(node) if a < categories)
        assert graph.category_ancestors[node].tolist() == expected
        below = [c for c in range(categories) if node in ancestors(c)]
        assert set(graph.category_children[node].tolist()) <= set(below)
        assert all(graph.levels[child] > graph.levels[node] for child in graph.children[node])
