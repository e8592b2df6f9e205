"""Batches of two kinds that take turns; images that cannot be read."""

import logging
import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.utils import comm

from cqdino_d2.data import ImageLevelBatches, build_train_loader
from cqdino_d2.data.image_level.alternation import Turns
from cqdino_d2.engine.config.lengths import HasOtherBatches

BOXES = [{"name": f"box {i}", "annotations": [{"category_id": i % 3}]} for i in range(7)]
LABELLED = [{"name": f"label {i}", "annotations": [{"category_id": i % 5}]} for i in range(11)]


class NoisyMapper:
    """Returns the names of the records with a draw of each global generator."""

    def __init__(self, unreadable=()):
        self.unreadable = unreadable

    def __call__(self, record):
        names = [r["name"] for r in (record if isinstance(record, list) else [record])]
        for name in names:
            if name in self.unreadable:
                raise FileNotFoundError(f"no such file: {name}.jpg")
        draws = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
        return {"names": names, "draws": draws}


def loader(num_workers=0, ratio=(1, 1), batch=4, image_level_batch=2, mapper=None, **arguments):
    options = {key: arguments.pop(key) for key in ("mosaic", "sampler") if key in arguments}
    return build_train_loader(
        dataset=BOXES,
        mapper=NoisyMapper(),
        total_batch_size=batch,
        num_workers=num_workers,
        image_level=None
        if ratio is None
        else ImageLevelBatches(
            dataset=LABELLED,
            mapper=mapper or NoisyMapper(),
            total_batch_size=image_level_batch,
            ratio=ratio,
            **options,
        ),
        **arguments,
    )


def take(number, **arguments):
    return list(islice(loader(**arguments), number))


def kinds(batches):
    """A letter for each batch, which must be of one kind: b, or i for image-level."""
    names = [{name[0] for sample in batch for name in sample["names"]} for batch in batches]
    assert all(len(one) == 1 for one in names)
    return "".join({"b": "b", "l": "i"}[one.pop()] for one in names)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        ((1, 1), "bibibibibi"),
        ((2, 1), "bbibbibbib"),
        ((1, 3), "biiibiiibi"),
        ((2, 2), "bbiibbiibb"),
    ],
)
def test_kinds_take_turns_and_sizes_differ(ratio, expected):
    batches = take(10, ratio=ratio)
    assert kinds(batches) == expected
    sizes = {"b": 4, "i": 2}
    assert [len(batch) for batch in batches] == [sizes[one] for one in expected]


@pytest.mark.parametrize("ratio", [(1, 1), (3, 2)])
def test_each_kind_has_its_own_endless_stream(ratio):
    """The boxes' is that of a training without image-level images; both are reshuffled."""
    batches = take(40, ratio=ratio)
    of_boxes = [batch for batch in batches if kinds([batch]) == "b"]
    assert of_boxes == take(len(of_boxes), ratio=None)
    labelled = [s["names"][0] for b in batches if kinds([b]) == "i" for s in b]
    assert set(labelled[:11]) == set(labelled[11:22]) == {r["name"] for r in LABELLED}
    assert labelled[:11] != labelled[11:22]


@pytest.mark.parametrize("ratio", [(1, 1), (2, 3)])
def test_resuming_anywhere_continues_exactly(ratio):
    whole = take(17, ratio=ratio)
    for start in (1, 2, 3, 7, 8, 12):
        assert take(5, ratio=ratio, start_iter=start) == whole[start : start + 5]
    assert take(4, ratio=ratio, start_iter=9, num_workers=2) == whole[9:13]


@pytest.mark.parametrize("sampler", ["uniform", "class_aware"])
def test_batches_do_not_depend_on_workers_or_processes(monkeypatch, sampler):
    expected = take(9, sampler=sampler, seed=3, mosaic=0.5)
    assert take(9, num_workers=2, sampler=sampler, seed=3, mosaic=0.5) == expected
    shares = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        shares.append(take(9, num_workers=rank, sampler=sampler, seed=3, mosaic=0.5))
    assert [a + b for a, b in zip(*shares, strict=True)] == expected


def test_mosaics_are_of_image_level_images_alone():
    batches = take(30, mosaic=1.0)
    sizes = {len(s["names"]) for b in batches if kinds([b]) == "i" for s in b}
    assert sizes == {4} and {len(s["names"]) for b in batches[::2] for s in b} == {1}
    companions = {name for b in batches[1::2] for s in b for name in s["names"][1:]}
    assert companions == {r["name"] for r in LABELLED}, "the first and the last among them"


def test_epochs_are_those_of_the_boxes():
    found = loader(ratio=(1, 1))
    assert len(found.dataset) == len(BOXES)
    assert isinstance(found, HasOtherBatches) and found.iterations_until(9) == 18
    assert not isinstance(loader(ratio=None), HasOtherBatches)


@pytest.mark.parametrize("turns", [Turns(1, 1), Turns(3, 2), Turns(1, 4), Turns(2, 1)])
def test_turns_agree_with_counting(turns):
    boxes = labelled = 0
    for step in range(40):
        assert turns.before(step) == (boxes, labelled)
        image_level = turns.is_image_level(step)
        boxes, labelled = boxes + (not image_level), labelled + image_level
    for number in range(12):
        steps = turns.steps(number)
        assert turns.before(steps)[0] == number
        assert turns.before(steps + 1)[0] == number + 1 or number == 0 and steps == 0


@pytest.mark.parametrize("ratio", [(1,), (0, 1), (1, 0), (1, 1, 1), (1.5, 1), (True, 1), (-1, 1)])
def test_other_ratios_are_refused(ratio):
    with pytest.raises(ValueError, match="two whole numbers of at least 1, got"):
        loader(ratio=ratio)


def test_bad_arguments(monkeypatch):
    with pytest.raises(ValueError, match="got 1.5"):
        loader(mosaic=1.5)
    with pytest.raises(ValueError, match="got 'random'"):
        loader(sampler="random")
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="got 3 for 2"):
        loader(image_level_batch=3)


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_an_image_that_cannot_be_read_is_replaced_the_same_way_every_time(caplog, mosaic):
    broken = NoisyMapper(unreadable=("label 2", "label 7"))
    with caplog.at_level(logging.WARNING, logger="cqdino_d2"):
        found = take(60, mapper=broken, mosaic=mosaic)
    names = [name for batch in found for sample in batch for name in sample["names"]]
    assert not {"label 2", "label 7"} & set(names)
    said = [record.getMessage() for record in caplog.records]
    assert sorted(said) == [  # once each, however often they are met
        f"no such file: label {n}.jpg; another image takes its place" for n in (2, 7)
    ]
    assert take(60, mapper=broken, mosaic=mosaic, num_workers=2) == found
    assert take(7, mapper=broken, mosaic=mosaic, start_iter=23) == found[23:30]
    whole = take(60, mosaic=mosaic)
    kept = [
        (one, other)
        for batch, unbroken in zip(found, whole, strict=True)
        for one, other in zip(batch, unbroken, strict=True)
        if not {"label 2", "label 7"} & set(other["names"])
    ]
    assert len(kept) > 60 and all(one == other for one, other in kept)


def test_a_folder_without_images_ends_the_run():
    broken = NoisyMapper(unreadable=[record["name"] for record in LABELLED])
    with pytest.raises(OSError, match=r"^100 images in a row cannot be read; the last: no such"):
        take(2, mapper=broken)


def test_images_with_boxes_end_a_run_unless_they_may_be_replaced():
    def run(**arguments):
        unreadable = NoisyMapper(unreadable=("box 3",))
        batches = build_train_loader(
            dataset=BOXES, mapper=unreadable, total_batch_size=2, num_workers=0, **arguments
        )
        return [name for batch in islice(batches, 20) for s in batch for name in s["names"]]

    with pytest.raises(FileNotFoundError, match="box 3"):
        run()
    names = run(replace_unreadable=True)
    assert len(names) == 40 and set(names) == {f"box {i}" for i in range(7) if i != 3}
