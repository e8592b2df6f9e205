import pytest

from cqdino_d2.annotations.edge_lists import hierarchy_from_edge_list


def write(tmp_path, text):
    path = tmp_path / "edges.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_edge_list(tmp_path):
    text = "\ufeff# parent child\nthing animal\nanimal  dog\n\nanimal cat\npet dog\nanimal dog\n"
    nodes = ["dog", "animal", "watch", "dog"]  # two categories on one node, one without an edge
    hierarchy = hierarchy_from_edge_list(write(tmp_path, text), nodes)
    assert hierarchy.num_nodes == 4 + 3  # thing, cat, pet
    assert [hierarchy.category_ancestors[i].tolist() for i in range(4)] == [[1], [], [], [1]]
    assert hierarchy.category_children[1].tolist() == [0, 3]
    assert hierarchy.levels[:4].tolist() == [3, 2, 1, 3]


def test_names_with_spaces_are_parted_by_tabs(tmp_path):
    path = write(tmp_path, "wild animal\tred fox\nthing\twild animal\n")
    hierarchy = hierarchy_from_edge_list(path, ["red fox", "thing"])
    assert hierarchy.category_ancestors[0].tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b\nb c d\n", r"edges\.txt, line 2: expected 'parent child'"),
        (
            "a b\nb c\nc a\n",
            r"edges\.txt: the hierarchy has a cycle: node a -> node c -> node b -> node a",
        ),
        ("a a\n", "cycle: node a -> node a"),
        ("x y\n", r"names none of the 2 categories: .*\['x', 'y'\].*\['a', 'b'\]"),
        ("", "names none"),
    ],
)
def test_bad_lists(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        hierarchy_from_edge_list(write(tmp_path, text), ["a", "b"])


def test_unreadable(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.txt; expected layout: here"):
        hierarchy_from_edge_list(tmp_path / "gone.txt", ["a"], layout="here")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"b\.txt is no text file"):
        hierarchy_from_edge_list(tmp_path / "b.txt", ["a"])
