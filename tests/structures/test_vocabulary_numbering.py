"""Files whose categories have other ids."""

import pytest

from cqdino_d2.structures import CategoryHierarchy, Vocabulary

VOCABULARY = Vocabulary(("cat", "dog", "mouse", "mouse"), (1, 2, 3, 9), CategoryHierarchy.flat(4))


@pytest.mark.parametrize(
    "names_of",
    [
        {1: "cat", 2: "dog"},
        {1: "Cat", 2: "a dog", 7: "cow"},  # spelt differently, or unknown
        {4: "mouse"},  # which of both?
        {5: "dog", 2: "dog"},
        {},
    ],
)
def test_what_may_be_the_same_numbering(names_of):
    VOCABULARY.check_numbering(names_of, "val.json")


def test_other_numberings_are_named():
    with pytest.raises(ValueError, match=r"val.json .*'dog' is 2 here and 1 there.*2 such names"):
        VOCABULARY.check_numbering({1: "dog", 2: "cat"}, "val.json")
    with pytest.raises(ValueError, match="'dog' is 2 here and 7 there"):
        VOCABULARY.check_numbering({1: "cat", 7: "dog"}, "val.json")
