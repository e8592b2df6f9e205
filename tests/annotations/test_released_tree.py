import csv
import json

import pytest

from cqdino_d2.annotations import (
    hierarchy_from_file,
    vocabulary_from_annotations,
    vocabulary_from_tree,
)
from cqdino_d2.annotations.released_tree import COLUMNS

# level, id, category id, parent id, direct children; n0 is no category, n3 has two parents
TABLE = [
    (1, "n0", "", "-1", "['n1', 'n2']"),
    (2, "n1", 10, "n0", "['n3']"),
    (2, "n2", 20, "n0", "['n3']"),
    (3, "n3", 5, "n1", "[]"),
]


def write_table(path, table=TABLE, header=COLUMNS):
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(header)
        for level, node, category, parent, children in table:
            texts = [f"name of {node}", "中文", "a, b", "长"]
            writer.writerow([level, node, category, *texts, parent, children, "[]"])
    return path


@pytest.mark.parametrize("header", [COLUMNS, None])
@pytest.mark.parametrize("form", ["['n3']", "n3", "n3;", "5", "[5]"])
def test_the_tree_of_the_table(tmp_path, header, form):
    """Children may be node ids or category ids, in any of the usual ways of writing a list."""
    category_ids = "5" in form
    root = [TABLE[0]] if not category_ids else []
    table = [*root, (2, "n1", 10, "n0", form), (2, "n2", 20, "n0", form), TABLE[3]]
    path = write_table(tmp_path / "tree.csv", table, header)
    vocabulary = vocabulary_from_tree(path)
    assert vocabulary.dataset_ids == (5, 10, 20)
    assert vocabulary.names == ("name of n3", "name of n1", "name of n2")
    hierarchy = vocabulary.hierarchy
    assert hierarchy.category_ancestors[0].tolist() == [1, 2]
    assert hierarchy.levels[:3].tolist() == [3, 2, 2]
    assert hierarchy.num_nodes == 3 + len(root)


def test_the_levels_of_the_table_are_kept(tmp_path):
    table = [TABLE[0], TABLE[1], (7, *TABLE[2][1:]), (9, *TABLE[3][1:])]
    hierarchy = vocabulary_from_tree(write_table(tmp_path / "tree.csv", table)).hierarchy
    assert hierarchy.levels.tolist() == [9, 2, 7, 1]


def test_columns_that_contradict_are_reported(tmp_path, caplog):
    path = write_table(tmp_path / "tree.csv")
    hierarchy_from_file(path, [5, 10, 20])
    assert "share only 3 edges" in caplog.text  # the second parent of n3


def test_categories_of_the_data_set_decide(tmp_path):
    """Categories of the table that the vocabulary lacks stand in the tree as virtual nodes."""
    path = write_table(tmp_path / "tree.csv")
    hierarchy = hierarchy_from_file(path, [20, 5])
    assert hierarchy.category_ancestors[1].tolist() == [0]
    with pytest.raises(ValueError, match=r"does not know 1 of the 2 category ids.*\[7\]"):
        hierarchy_from_file(path, [5, 7])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([(1, "a", 1, "-1", "['b']")], r"no nodes of the table: \['b'\]"),
        ([(1, "a", 1, "b", "['b']"), (2, "b", 2, "a", "['a']")], "node a -> node b -> node a"),
        ([(1, "a", 1, "-1", ""), (1, "a", 2, "-1", "")], r"'id' has \['a'\] more than once"),
        ([(1, "a", 1, "-1", ""), (1, "b", 1, "-1", "")], r"'category id' has \[1\] more than"),
        ([("x", "a", 1, "-1", "")], r"line 2: 'level' and 'category id' must be numbers"),
        ([], "no lines"),
    ],
)
def test_bad_tables(tmp_path, table, message):
    path = write_table(tmp_path / "tree.csv", table)
    with pytest.raises(ValueError, match=message) as caught:
        vocabulary_from_tree(path)
    assert "tree.csv" in str(caught.value)


def test_another_file(tmp_path):
    path = tmp_path / "tree.csv"
    path.write_text("level,id\n1,2\n")
    with pytest.raises(ValueError, match=r"line 2: 2 columns found, 10 expected \(level"):
        vocabulary_from_tree(path)
    path.write_bytes("level\n1,ü".encode("latin-1"))
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        vocabulary_from_tree(path)
    with pytest.raises(FileNotFoundError, match="gone"):
        vocabulary_from_tree(tmp_path / "gone.csv")


def test_a_vocabulary_from_v3dets_own_tree_and_from_annotations(tmp_path):
    tree, annotations = tmp_path / "tree.json", tmp_path / "gt.json"
    content = {
        "categoryid2treeid": {"10": "n1", "5": "n3"},
        "id2name": {"n1": "animal", "n3": "dog"},
        "father2child": {"n1": ["n3"]},
        "child2father": {"n3": ["n1"]},
    }
    tree.write_text(json.dumps(content))
    annotations.write_text(json.dumps({"categories": [{"id": 10, "name": "x"}, {"id": 5}]}))
    vocabulary = vocabulary_from_tree(tree)
    assert (vocabulary.names, vocabulary.dataset_ids) == (("dog", "animal"), (5, 10))
    assert vocabulary.hierarchy.category_ancestors[0].tolist() == [1]
    with_tree = vocabulary_from_annotations(annotations, tree)
    assert (with_tree.names, with_tree.dataset_ids) == (("category 5", "x"), (5, 10))
    assert with_tree.hierarchy.category_ancestors[0].tolist() == [1]
    assert not len(vocabulary_from_annotations(annotations).hierarchy.category_ancestors[0])
