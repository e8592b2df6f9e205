"""Which categories the parents of new ones are."""

import pytest

from cqdino_d2.prediction.vocabulary_extension import parent_ids
from cqdino_d2.structures import CategoryHierarchy, Vocabulary

VOCABULARY = Vocabulary(
    ("crane", "bird", "crane"), (30, 10, 20), CategoryHierarchy(3, [[1], [], []])
)


def test_parents_are_named_or_given_by_id_and_may_be_new():
    names = ["heron", "grey heron", "nest"]
    parents = [["bird", 20], "heron", None]
    assert parent_ids(VOCABULARY, names, parents) == [[1, 2], [3], []]
    assert parent_ids(VOCABULARY, names, None) == [[], [], []]


def test_a_name_of_several_categories_is_refused():
    with pytest.raises(ValueError, match=r"2 categories are called 'crane'.*\[30, 20\]"):
        parent_ids(VOCABULARY, ["heron"], ["crane"])


@pytest.mark.parametrize("parents", ["bird", ["bird", "bird"], []])
def test_there_are_as_many_parents_as_names(parents):
    with pytest.raises(ValueError, match="1 new categories need as many parents"):
        parent_ids(VOCABULARY, ["heron"], parents)
