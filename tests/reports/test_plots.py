import numpy as np
import pytest

from cqdino_d2.reports.plots import _bins_of, branch_categories

NODES = {"1": "a", "2": "b", "3": "c", "4": "d", "5": "e"}
NAMES = {"x": "left", "y": "right"}


def test_branches_are_the_roots_where_there_are_several():
    children = {"root": ["x", "y", "a"], "x": ["b", "c"], "y": ["c"], "d": ["e"]}
    tree = {"categoryid2treeid": NODES, "id2name": NAMES, "father2child": children}
    assert branch_categories(tree, [1, 2, 3, 4, 5]) == {"root": [0, 1, 2], "d": [3, 4]}


@pytest.mark.parametrize("above", [[], ["top"], ["top", "upper"]])
def test_branches_are_the_first_level_of_several_below_a_single_root(above):
    children = {"root": ["x", "y", "a"], "x": ["b", "c"], "y": ["c"]}
    for node in above[::-1]:
        children[node] = [next(n for n in children if all(n not in c for c in children.values()))]
    tree = {"categoryid2treeid": NODES, "id2name": NAMES, "father2child": children}
    assert branch_categories(tree, [1, 2, 3]) == {"left": [1, 2], "right": [2]}


def test_a_root_whose_children_are_leaves_is_one_branch():
    tree = {"categoryid2treeid": NODES, "father2child": {"root": ["a", "b"]}}
    assert branch_categories(tree, [1, 2]) == {"root": [0, 1]}


@pytest.mark.parametrize("number", [1, 7, 96, 1000])
def test_bins_hold_every_category_once_and_do_not_share_a_number_of_boxes(number):
    boxes = np.random.default_rng(number).integers(1, 14, number)
    bins = _bins_of(boxes)
    assert sorted(np.concatenate(bins).tolist()) == list(range(number))
    spans = [(boxes[one].min(), boxes[one].max()) for one in bins]
    assert all(before[1] < after[0] for before, after in zip(spans, spans[1:], strict=False))
    assert len(bins) <= 15
