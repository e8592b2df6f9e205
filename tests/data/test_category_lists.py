from cqdino_d2.data.category_lists import CategoryLists
from cqdino_d2.data.mapper import CategoryDatasetMapper
from cqdino_d2.data.mosaic import CutMosaic
from cqdino_d2.structures import CategoryHierarchy, Vocabulary

from ..annotation_sets import write_picture

VOCABULARY = Vocabulary(
    names=("a", "b", "c", "d"), dataset_ids=(3, 11, 5, 8), hierarchy=CategoryHierarchy.flat(4)
)
LISTS = CategoryLists(vocabulary=VOCABULARY)


def record(absent, unfinished, **fields):
    return {"neg_category_ids": absent, "not_exhaustive_category_ids": unfinished, **fields}


def listed(*records):
    found = LISTS(records)
    return found["absent_vocab_ids"].tolist(), found["unfinished_vocab_ids"].tolist()


def test_dataset_ids_become_vocab_ids():
    assert listed(record([11, 3, 99], [8])) == ([0, 1], [3])
    assert listed({"image_id": 4}) == ([], [])


def test_of_several_images_in_one():
    records = [record([3, 11, 5], [8]), record([5, 3], []), record([3], [11, 8])]
    assert listed(*records) == ([0], [1, 3])
    assert listed(*records, {}) == ([], [1, 3])


def test_the_mapper_carries_them_only_when_asked(tmp_path):
    path = write_picture(tmp_path / "a.png")
    given = record([5], [3, 8], file_name=str(path), height=20, width=30, annotations=[])
    mapped = CategoryDatasetMapper(augmentations=[], category_lists=LISTS)(given)
    assert mapped["absent_vocab_ids"].tolist() == [2]
    assert mapped["unfinished_vocab_ids"].tolist() == [0, 3]
    assert "absent_vocab_ids" not in CategoryDatasetMapper(augmentations=[])(given)
    mosaic = CategoryDatasetMapper(
        augmentations=[], category_lists=LISTS, mosaic=CutMosaic(side=32)
    )
    other = given | record([5, 11], [11])
    mapped = mosaic([given, other, given, given])
    assert mapped["absent_vocab_ids"].tolist() == [2]
    assert mapped["unfinished_vocab_ids"].tolist() == [0, 1, 3]
