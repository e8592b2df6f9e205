import json

import numpy as np
import pytest

from cqdino_d2.structures import (
    CategoryHierarchy,
    Vocabulary,
    load_vocabulary,
    random_vocabulary,
)


def make_vocabulary():
    """Nodes 4 and 5 are virtual: 4 above 0 and 1, 5 between 0 and 3; ``Bear`` is there twice."""
    hierarchy = CategoryHierarchy(4, [[4], [4], [], [5], [], [0]])
    return Vocabulary(("Golden_Retriever", "bear", "Bear", "puppy"), (10, 20, 30, 40), hierarchy)


def test_names_are_found_as_people_write_them():
    vocabulary = make_vocabulary()
    assert vocabulary.find(" golden  retriever") == (0,)
    assert vocabulary.find("BEAR") == (1, 2)
    assert vocabulary.find(30) == (2,)


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ("golden retreiver", "did you mean 'golden retriever'"),
        ("retriever", "did you mean 'golden retriever'"),
        ("", "nothing comes close"),
        (11, "no category with the id 11"),
    ],
)
def test_what_is_not_there_is_named(category, message):
    with pytest.raises(ValueError, match=message):
        make_vocabulary().find(category)


def test_branches_look_through_virtual_nodes():
    assert make_vocabulary().hierarchy.branch(0) == [0, 3]
    vocabulary = random_vocabulary(200, branching=3)
    ancestors = vocabulary.hierarchy.category_ancestors
    for root in (0, 1, 7, 199):
        wanted = [i for i in range(200) if i == root or root in ancestors[i]]
        assert vocabulary.hierarchy.branch(root) == wanted


def test_new_categories_go_behind_the_old_and_leave_the_tree_as_it_was():
    old = make_vocabulary()
    new = old.extended(["cub", "den"], [[1, 5], []], [99, 7])
    assert new.names[4:] == ("cub", "den") and new.dataset_ids[4:] == (99, 7)
    assert [new.hierarchy.parents[i].tolist() for i in range(8)] == [
        *([6], [6], [], [7]),
        *([1, 5], []),
        *([], [0]),
    ]
    assert np.delete(new.hierarchy.levels, [4, 5]).tolist() == old.hierarchy.levels.tolist()
    assert new.hierarchy.levels[[4, 5]].tolist() == [3, 1]
    assert new.hierarchy.category_children[0].tolist() == [3]


def test_levels_that_a_source_fixed_stay():
    hierarchy = CategoryHierarchy(2, [[], [0]], levels=[3, 9])
    extended = hierarchy.extended([[1], [2]])
    assert extended.levels.tolist() == [3, 9, 10, 11]


def test_unusable_extensions_are_refused():
    vocabulary = make_vocabulary()
    with pytest.raises(ValueError, match=r"categories 0\.\.4, got \[5\]"):
        vocabulary.extended(["cub"], [[5]])
    with pytest.raises(ValueError, match="1 new names, 2 ids"):
        vocabulary.extended(["cub"], None, [1, 2])
    with pytest.raises(ValueError, match="unique"):
        vocabulary.extended(["cub"], None, [40])
    with pytest.raises(ValueError, match="cycle"):
        vocabulary.extended(["a", "b"], [[5], [4]])


SOUND = {
    "format": "cqdino_d2.vocabulary.v1",
    "names": ["a", "b"],
    "dataset_ids": [4, 2**64],
    "parents": [[], [0]],
    "levels": [1, 2],
}


def write_content(path, content, encoding="utf-8"):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding)
    return path


def test_a_byte_order_mark_and_large_ids_are_read(tmp_path):
    path = write_content(tmp_path / "v.json", SOUND, "utf-8-sig")
    assert load_vocabulary(path).dataset_ids == (4, 2**64)


def test_names_are_made_fit_to_be_shown(tmp_path):
    path = write_content(tmp_path / "v.json", SOUND | {"names": ["a\n", "\x1b[31mb"]})
    assert load_vocabulary(path).names == ("a", "\ufffd[31mb")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        "null",
        "[" * 100_000,
        {**SOUND, "format": "other"},
        *({key: value for key, value in SOUND.items() if key != left} for left in SOUND),
        {**SOUND, "names": "ab"},
        {**SOUND, "names": None},
        {**SOUND, "names": ["a", None]},
        {**SOUND, "names": ["a", 5]},
        {**SOUND, "names": ["a"]},
        {**SOUND, "dataset_ids": ["4", "2"]},
        {**SOUND, "dataset_ids": [4, 2.0]},
        {**SOUND, "dataset_ids": [4, True]},
        {**SOUND, "dataset_ids": [4, 4]},
        {**SOUND, "dataset_ids": {"4": 0}},
        {**SOUND, "parents": [[], ["0"]]},
        {**SOUND, "parents": [[], [7]]},
        {**SOUND, "parents": [[], 0]},
        {**SOUND, "parents": [[1], [0]]},
        {**SOUND, "parents": []},
        {**SOUND, "levels": [1]},
        {**SOUND, "levels": ["1", 2]},
        {**SOUND, "levels": [1, 2**70]},
    ],
)
def test_what_is_no_vocabulary_is_one_line(tmp_path, content):
    path = write_content(tmp_path / "v.json", content)
    with pytest.raises(ValueError, match=r"v\.json is not a vocabulary") as caught:
        load_vocabulary(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b'{"format": "\xff"}')
    with pytest.raises(ValueError, match=r"v\.json is not a vocabulary"):
        load_vocabulary(path)
