"""Records look like Detectron2's list of dicts and go through its functions."""

import pickle

import numpy as np
import pytest
from detectron2.data import (
    DatasetCatalog,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.samplers import RepeatFactorTrainingSampler

from cqdino_d2.annotations.cache import load_annotations
from cqdino_d2.data.loader import get_training_records
from cqdino_d2.data.records import Records, categories_of, sizes_of
from cqdino_d2.data.registration import register_all

from ..annotation_sets import box_row, image_row, v3det_categories, write_json


@pytest.fixture
def records(tmp_path):
    """Five images; 2 and 4 have no box, the only one of 3 is a crowd."""
    images = [image_row(i, f"{i}.png", height=10 + i) for i in range(5)]
    annotations = [
        box_row(1, 3, 2, [0, 0, 5, 5], iscrowd=1),
        box_row(2, 0, 1, [1, 1, 2, 2]),
        box_row(3, 1, 3, [1, 1, 2, 2]),
        box_row(4, 1, 4, [1, 1, 2, 2], iscrowd=1),
        box_row(5, 1, 3, [2, 2, 2, 2]),
    ]
    path = write_json(
        tmp_path / "a.json",
        {"images": images, "categories": v3det_categories(), "annotations": annotations},
    )
    return Records.of_file(load_annotations(path), str(tmp_path))


def ids(records):
    return [record["image_id"] for record in records]


def classes(records):
    return [[a["category_id"] for a in record["annotations"]] for record in records]


def test_is_a_sequence(records):
    assert len(records) == 5
    assert ids(records) == [0, 1, 2, 3, 4]
    assert ids(records[1:4]) == [1, 2, 3] and isinstance(records[1:4], Records)
    assert ids(records[::-2]) == [4, 2, 0]
    assert ids(records[9:]) == [] and len(records[9:]) == 0
    assert records[-1] == records[4] == list(records)[4]
    assert records[np.int64(2)]["image_id"] == 2
    for index in (5, -6):
        with pytest.raises(IndexError, match="of 5"):
            records[index]


def test_every_item_is_new(records):
    records[0]["annotations"][0]["bbox"][0] = 99
    assert records[0]["annotations"][0]["bbox"] == [1, 1, 2, 2]


def test_filters(records):
    assert classes(records) == [[0], [2, 3, 2], [], [1], []]
    assert classes(records.without_crowd()) == [[0], [2, 2], [], [], []]
    assert ids(records.with_boxes()) == [0, 1, 3]
    assert ids(records.without_crowd().with_boxes()) == [0, 1]
    assert ids(records.without_crowd()[1:].with_boxes()) == [1]


def test_several_files_as_one(records):
    both = Records.concatenate([records[3:], records[:0], records.without_crowd()])
    assert ids(both) == [3, 4, 0, 1, 2, 3, 4]
    assert classes(both) == [[1], [], [0], [2, 2], [], [], []]
    some = both.select(np.asarray([6, 0, 3, 3, 1]))
    assert ids(some) == [4, 3, 1, 1, 4]
    assert classes(some[1:]) == [[1], [2, 2], [2, 2], []]


def test_columns_agree_with_the_dicts(records):
    mapped = records.in_vocabulary(np.asarray([5, 9, 7, 6]))
    assert classes(mapped) == [[5], [7, 6, 7], [], [9], []]
    again = mapped.in_vocabulary(np.arange(10)[::-1].copy())
    assert classes(again) == [[4], [2, 3, 2], [], [0], []]
    for some in (
        records,
        records.without_crowd(),
        mapped,
        again,
        Records.concatenate([mapped] * 2),
    ):
        for version in (some, some[::-1]):
            rows = categories_of(version)
            assert [rows[i].tolist() for i in range(len(rows))] == classes(version)
            plain = categories_of(list(version))
            assert [plain[i].tolist() for i in range(len(plain))] == classes(version)
            expected = [(record["height"], record["width"]) for record in version]
            assert sizes_of(version).tolist() == sizes_of(list(version)).tolist()
            assert sizes_of(version).tolist() == [list(size) for size in expected]


def test_pickling_sends_no_columns(records):
    data = pickle.dumps(records.without_crowd()[1:])
    assert len(data) < 2000
    assert list(pickle.loads(data)) == list(records.without_crowd()[1:])


class Identity:
    def __call__(self, record):
        return record


def test_detectron2_takes_them(v3det_root):
    register_all(v3det_root)
    given = DatasetCatalog.get("v3det_train")
    dicts = get_detection_dataset_dicts(["v3det_train", "v3det_val"], filter_empty=False)
    assert list(dicts) == [*given, *DatasetCatalog.get("v3det_val")]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(given, 0.9)
    assert len(factors) == 4
    for dataset in (given, dicts, get_training_records("v3det_train")):
        for workers in (0, 1):
            loader = build_detection_train_loader(
                dataset, mapper=Identity(), total_batch_size=2, num_workers=workers
            )
            batch = next(iter(loader))
            assert len(batch) == 2 and all("annotations" in record for record in batch)


def records_of_names(tmp_path, names, **options):
    images = [image_row(i, name) for i, name in enumerate(names)]
    content = {"images": images, "categories": v3det_categories(), "annotations": []}
    path = write_json(tmp_path / "names.json", content)
    return Records.of_file(load_annotations(path), str(tmp_path / "root"), **options)


@pytest.mark.parametrize(
    "name", ["../b.png", "deep/../../b.png", "/etc/b.png", "deep/..", "", "a\0.png", "./../b.png"]
)
@pytest.mark.parametrize("place", [0, 2, 3])
def test_names_outside_the_image_root_are_refused(tmp_path, name, place):
    names = ["a.png", "deep/.b.png", "..c/d.png"]
    names.insert(place, name)
    with pytest.raises(ValueError, match=rf"1 of 4 images .* image {place}: .*outside_root=True"):
        records_of_names(tmp_path, names)
    assert len(records_of_names(tmp_path, names, outside_root=True)) == 4


def test_every_name_outside_is_counted_and_some_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"7 of 9 images .*'../0.png'.*'../4.png' leads[^']*$"):
        records_of_names(tmp_path, [f"../{i}.png" for i in range(7)] + ["a.png", "b/../c.png"])


def test_names_inside_are_found_where_they_say(tmp_path):
    root = tmp_path / "root"
    names = ["a.png", "./b.png", "x/../c.png", "..d.png"]
    found = [record["file_name"] for record in records_of_names(tmp_path, names)]
    assert found == [str(root / name) for name in ("a.png", "b.png", "c.png", "..d.png")]
    outside = records_of_names(tmp_path, ["/else/a.png", "../b.png"], outside_root=True)
    assert [r["file_name"] for r in outside] == ["/else/a.png", f"{root}/../b.png"]
