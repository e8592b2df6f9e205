import colorsys

import pytest

from cqdino_d2.structures import CategoryHierarchy, Vocabulary, random_vocabulary
from cqdino_d2.visualization.category_tree import CategoryTree
from cqdino_d2.visualization.drawing import text_colour


def make_tree(parents, num_categories=None):
    count = num_categories or len(parents)
    names = tuple("abcdefghij"[:count])
    hierarchy = CategoryHierarchy(count, parents)
    return CategoryTree(Vocabulary(names, tuple(range(1, count + 1)), hierarchy))


def hue_distance(first, second):
    hues = [colorsys.rgb_to_hls(*(c / 255 for c in colour))[0] for colour in (first, second)]
    apart = abs(hues[0] - hues[1])
    return min(apart, 1 - apart)


def test_paths_and_roll_up():
    tree = make_tree([[], [0], [1], []])
    assert tree.path(2) == [0, 1, 2] and tree.path_name(2) == "a › b › c"
    assert [tree.rolled_up(2, depth) for depth in (None, 1, 2, 3, 9)] == [2, 0, 1, 2, 2]
    assert tree.rolled_up(3, 2) == 3
    assert (tree.depth, tree.roots) == (3, [0, 3])


def test_virtual_nodes_and_second_parents():
    tree = make_tree([[], [4], [0, 1], [5], [0], []], num_categories=4)  # 4 and 5 are virtual
    assert [tree.path(i) for i in range(4)] == [[0], [0, 1], [0, 2], [3]]


def test_siblings_are_alike_and_branches_are_not():
    tree = CategoryTree(random_vocabulary(85, branching=4))  # 0, its 4 children, ...
    leaves = range(21, 85)
    for leaf in leaves:
        parent, first = (leaf - 1) // 4, tree.colour(leaf)
        siblings = [i for i in leaves if (i - 1) // 4 == parent and i != leaf]
        strangers = [i for i in leaves if ((i - 1) // 4 - 1) // 4 != (parent - 1) // 4]
        near = max(hue_distance(first, tree.colour(i)) for i in siblings)
        assert near < min(hue_distance(first, tree.colour(i)) for i in strangers)
        assert near < 0.08


def test_few_categories_take_clearly_different_colours():
    tree = CategoryTree(random_vocabulary(6, branching=100))  # a root and five children
    colours = [tree.colour(i) for i in range(1, 6)]
    distances = [hue_distance(a, b) for i, a in enumerate(colours) for b in colours[:i]]
    assert min(distances) > 0.05


@pytest.mark.parametrize("count", [1, 13204])
def test_labels_can_be_read_on_every_colour(count):
    tree = CategoryTree(random_vocabulary(count))
    colours = {tree.colour(i) for i in range(0, count, 7)}
    assert all(text_colour(colour) == (0, 0, 0) for colour in colours)
    assert tree.depth >= 1


def test_an_empty_vocabulary_has_a_tree_too():
    tree = CategoryTree(Vocabulary((), (), CategoryHierarchy.flat(0)))
    assert (tree.depth, tree.roots) == (1, [])
