import pytest

from cqdino_d2.annotations.v3det_tree import hierarchy_from_v3det_tree

from ..annotation_sets import v3det_tree, write_json


def test_virtual_nodes_and_several_parents(tmp_path):
    path = write_json(tmp_path / "tree.json", v3det_tree())
    hierarchy = hierarchy_from_v3det_tree(path, (1, 2, 3, 4))
    assert hierarchy.num_categories == 4
    assert hierarchy.num_nodes == 7
    assert hierarchy.category_ancestors[0].tolist() == [1]
    assert hierarchy.category_ancestors[2].tolist() == [1]
    assert hierarchy.category_children[1].tolist() == [0, 2]
    assert len(hierarchy.parents[3]) == 2
    assert hierarchy.category_ancestors[3].tolist() == []


def test_one_direction_is_enough(tmp_path):
    tree = v3det_tree()
    tree["child2father"] = {}
    path = write_json(tmp_path / "tree.json", tree)
    hierarchy = hierarchy_from_v3det_tree(path, (1, 2, 3, 4))
    assert hierarchy.category_children[1].tolist() == [0, 2]


def test_a_part_of_the_categories(tmp_path):
    path = write_json(tmp_path / "tree.json", v3det_tree())
    hierarchy = hierarchy_from_v3det_tree(path, (2, 3))
    assert hierarchy.category_ancestors[1].tolist() == [0]


def test_categories_on_one_node_share_their_relations(tmp_path):
    tree = v3det_tree()
    tree["categoryid2treeid"]["3"] = "n1"
    path = write_json(tmp_path / "tree.json", tree)
    hierarchy = hierarchy_from_v3det_tree(path, (1, 2, 3, 4))
    assert [hierarchy.category_ancestors[i].tolist() for i in (0, 2)] == [[1], [1]]


def test_unknown_categories_are_named(tmp_path):
    path = write_json(tmp_path / "tree.json", v3det_tree())
    with pytest.raises(ValueError, match=r"tree\.json does not know 2 of the 3 .*\[5, 77\]"):
        hierarchy_from_v3det_tree(path, (1, 5, 77))


def test_a_cycle_is_named(tmp_path):
    tree = v3det_tree()
    tree["father2child"]["n1"] = ["n9"]
    path = write_json(tmp_path / "tree.json", tree)
    with pytest.raises(ValueError, match=r"tree\.json: the hierarchy has a cycle: .*n1.*n9"):
        hierarchy_from_v3det_tree(path, (1, 2, 3, 4))


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        hierarchy_from_v3det_tree(tmp_path / "gone.json", (1,))
    path = write_json(tmp_path / "tree.json", {"father2child": {}})
    with pytest.raises(
        ValueError, match=r"lacks the tables \['categoryid2treeid', 'child2father'\]"
    ):
        hierarchy_from_v3det_tree(path, (1,))
