import pytest

from cqdino_d2.structures import (
    CategoryHierarchy,
    Vocabulary,
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
