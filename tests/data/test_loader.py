import json
import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetFromList
from detectron2.utils import comm

from cqdino_d2.data.loader import build_test_loader, build_train_loader, get_training_records
from cqdino_d2.data.registration import dataset_vocabulary, register_all, register_coco_like

from ..annotation_sets import image_row, write_json


class NoisyMapper:
    """Returns the record's number with a draw of each global generator."""

    def __call__(self, record):
        draws = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
        return {"index": record["index"], "draws": draws}


RECORDS = [{"index": i, "annotations": [{"category_id": int(i == 0)}]} for i in range(7)]


def take(count, records=RECORDS, total_batch_size=4, num_workers=0, **arguments):
    loader = build_train_loader(
        dataset=records,
        mapper=NoisyMapper(),
        total_batch_size=total_batch_size,
        num_workers=num_workers,
        **arguments,
    )
    return list(islice(loader, count))


def as_process(monkeypatch, rank, world_size):
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)


@pytest.mark.parametrize("sampler", ["uniform", "repeat_factor", "class_aware"])
def test_batches_do_not_depend_on_workers_or_processes(monkeypatch, sampler):
    arguments = {"sampler": sampler, "repeat_threshold": 0.9, "seed": 5}
    expected = take(9, **arguments)
    assert take(9, num_workers=2, **arguments) == expected
    shares = []
    for rank in range(2):
        as_process(monkeypatch, rank, 2)
        shares.append(take(9, num_workers=rank, **arguments))
    assert [a + b for a, b in zip(*shares, strict=True)] == expected


def test_resuming_continues_exactly():
    whole = take(12)
    assert take(4, start_iter=8) == whole[8:]
    assert take(4, start_iter=8, num_workers=2) == whole[8:]


def test_every_sample_has_its_own_randomness():
    draws = [sample["draws"] for batch in take(10) for sample in batch]
    assert len(set(draws)) == 40
    assert take(2, seed=1) != take(2, seed=2)


def test_the_global_generators_stay_untouched():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    take(3, num_workers=1)
    assert torch.equal(torch.rand(3), expected)


def test_a_data_set_of_records_is_taken_as_it_is():
    assert take(3, records=DatasetFromList(RECORDS)) == take(3)


def test_bad_arguments(monkeypatch):
    with pytest.raises(ValueError, match="the dataset is empty"):
        take(1, records=[])
    with pytest.raises(ValueError, match="got 'random'"):
        take(1, sampler="random")
    as_process(monkeypatch, 0, 3)
    with pytest.raises(ValueError, match="got 4 for 3"):
        take(1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_test_loader_covers_every_record_once(monkeypatch, num_workers):
    seen = []
    for rank in range(3):
        as_process(monkeypatch, rank, 3)
        loader = build_test_loader(
            dataset=RECORDS, mapper=NoisyMapper(), num_workers=num_workers, batch_size=2
        )
        batches = list(loader)
        assert len(batches) == len(loader)
        seen.append([sample["index"] for batch in batches for sample in batch])
    assert seen == [[0, 1, 2], [3, 4], [5, 6]]


def test_training_records(v3det_root):
    register_all(v3det_root)
    records = get_training_records("v3det_train")
    assert [record["image_id"] for record in records] == [10, 13]
    records = get_training_records(["v3det_train", "v3det_val"], filter_empty=False)
    assert [len(record["annotations"]) for record in records] == [3, 0, 0, 1] * 2


def test_no_training_record(tmp_path, v3det_root):
    content = {"images": [image_row(1, "a.png")], "categories": [{"id": 1}], "annotations": []}
    path = write_json(tmp_path / "a.json", content)
    register_coco_like("bare", path, tmp_path)
    with pytest.raises(ValueError, match=r"no training image in \['bare'\]: 1 .*none with a box"):
        get_training_records("bare")
    assert len(get_training_records("bare", filter_empty=False)) == 1
    register_all(v3det_root)
    with pytest.raises(
        ValueError, match="category id 1 is 'dog' in 'v3det_train' and 'category 1'"
    ):
        get_training_records(["v3det_train", "bare"])


def test_several_sets_in_one_vocabulary(v3det_root):
    """The second set lacks a category: its boxes keep their meaning all the same."""
    folder = v3det_root / "V3Det"
    content = json.loads((folder / "annotations/v3det_2023_v1_train.json").read_text())
    content["categories"] = [row for row in content["categories"] if row["id"] != 1]
    content["annotations"] = [row for row in content["annotations"] if row["category_id"] != 1]
    register_coco_like("fewer", write_json(folder / "fewer.json", content), folder)
    register_all(v3det_root)
    records = get_training_records(["fewer", "v3det_train"])
    found = [[a["category_id"] for a in record["annotations"]] for record in records]
    assert found == [[1, 3], [2], [0, 1, 3], [2]]
    alone = get_training_records("fewer", vocabulary=dataset_vocabulary("v3det_train"))
    assert [a["category_id"] for a in alone[0]["annotations"]] == [1, 3]
    with pytest.raises(ValueError, match=r"lacks 1 of the 4 category ids .*'v3det_train': \[1\]"):
        get_training_records("v3det_train", vocabulary=dataset_vocabulary("fewer"))


class WhichRecords:
    """Returns the numbers of the records it is given."""

    def __call__(self, records):
        return [r["index"] for r in records] if isinstance(records, list) else [records["index"]]


def test_mosaics(monkeypatch):
    def samples(mosaic, **arguments):
        loader = build_train_loader(
            dataset=RECORDS, mapper=WhichRecords(), total_batch_size=4, mosaic=mosaic, **arguments
        )
        return [sample for batch in islice(loader, 50) for sample in batch]

    plain, some, only = (samples(share, num_workers=0) for share in (0.0, 0.5, 1.0))
    assert {len(sample) for sample in plain} == {1} and {len(sample) for sample in only} == {4}
    assert 60 < sum(len(sample) == 4 for sample in some) < 140
    assert [sample[0] for sample in some] == [sample[0] for sample in plain]
    assert samples(0.5, num_workers=2) == some
    assert samples(0.5, num_workers=0, start_iter=3)[:100] == some[12:112]
    with pytest.raises(ValueError, match="got 1.5"):
        samples(1.5)


def test_wide_and_high_images_go_to_different_batches():
    shapes = [{"index": i, "width": 10, "height": 5 + 10 * (i % 2)} for i in range(40)]
    loader = build_train_loader(
        dataset=shapes,
        mapper=WhichRecords(),
        total_batch_size=4,
        num_workers=0,
        aspect_ratio_grouping=True,
    )
    batches = list(islice(loader, 10))
    assert all(len({sample[0] % 2 for sample in batch}) == 1 for batch in batches)
    assert sorted(sample[0] for batch in batches for sample in batch) == list(range(40))
