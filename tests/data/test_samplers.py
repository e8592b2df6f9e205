from itertools import islice

import numpy as np
import pytest
from detectron2.data.samplers import RepeatFactorTrainingSampler

from cqdino_d2.data.samplers import (
    ClassAwareOrder,
    RepeatFactorOrder,
    StreamBatchSampler,
    UniformOrder,
    repeat_factors,
)
from cqdino_d2.structures import RaggedIndex


def orders():
    factors = np.asarray([1.0, 2.5, 1.25, 3.0, 1.0])
    categories = RaggedIndex.from_rows([[0], [0, 1], [], [2, 2], [1]])
    return [
        UniformOrder(size=7, seed=3),
        RepeatFactorOrder(repeat_factors=factors, seed=3),
        ClassAwareOrder(categories=categories, seed=3),
    ]


def batches(order, count, **arguments):
    return list(islice(StreamBatchSampler(order=order, total_batch_size=4, **arguments), count))


@pytest.mark.parametrize("order", orders())
def test_processes_see_together_what_one_sees(order):
    alone = batches(order, 20)
    shared = [batches(order, 20, rank=rank, world_size=2) for rank in range(2)]
    assert alone == [first + second for first, second in zip(*shared, strict=True)]


@pytest.mark.parametrize("order", orders())
def test_resuming_continues_the_stream(order):
    whole = batches(order, 30)
    for start in (1, 6, 7, 14, 25):
        assert batches(order, 5, start_iter=start) == whole[start : start + 5]


@pytest.mark.parametrize("order", orders())
def test_the_stream_is_the_epochs_in_turn(order):
    stream = [sample for batch in batches(order, 30) for sample in batch]
    assert [position for position, _ in stream] == list(range(120))
    expected = np.concatenate([order.order(epoch) for epoch in range(30)])[:120]
    assert [record for _, record in stream] == expected.tolist()


def test_uniform_epochs_are_permutations_that_differ():
    order = UniformOrder(size=50, seed=0)
    assert sorted(order.order(0)) == list(range(50))
    assert order.order(0).tolist() != order.order(1).tolist()
    assert order.order(0).tolist() != UniformOrder(size=50, seed=1).order(0).tolist()


def test_repeats_round_to_their_factor_on_average():
    factors = np.asarray([1.0, 2.5, 1.25])
    order = RepeatFactorOrder(repeat_factors=factors, seed=0)
    counts = sum(np.bincount(order.order(epoch), minlength=3) for epoch in range(2000))
    assert np.allclose(counts / 2000, factors, atol=0.05)
    assert all(len(order.order(epoch)) == order.length(epoch) for epoch in range(5))


def test_repeat_factors_by_hand():
    categories = RaggedIndex.from_rows([[0], [0, 0], [0, 1], []])
    # f(0) = 3/4, f(1) = 1/4
    expected = [1.0, 1.0, (0.36 / 0.25) ** 0.5, 1.0]
    assert np.allclose(repeat_factors(categories, threshold=0.36), expected)
    assert repeat_factors(RaggedIndex.from_rows([[], []])).tolist() == [1, 1]


def test_repeat_factors_agree_with_detectron2():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 30, rng.integers(0, 5)).tolist() for _ in range(60)]
    records = [{"annotations": [{"category_id": c} for c in row]} for row in rows]
    expected = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, 0.1)
    found = repeat_factors(RaggedIndex.from_rows(rows), 0.1)
    assert np.allclose(found, expected.numpy())
    assert found.max() > 1.2


def test_class_aware_draws_categories_equally_often():
    rows = [[0]] * 90 + [[1, 1, 1]] * 8 + [[0, 2]] + [[]]
    order = ClassAwareOrder(categories=RaggedIndex.from_rows(rows), seed=0)
    assert order.length(0) == 100
    samples = np.concatenate([order.order(epoch) for epoch in range(30)])
    drawn = samples[:99].tolist()
    assert 99 not in samples, "has no box"
    assert sum(90 <= sample < 98 for sample in drawn) == 33, "category 1: a third of each round"
    assert 33 <= drawn.count(98) <= 35, "category 2 has only this record, category 0 others too"
    shares = np.bincount(samples, minlength=100) / len(samples)
    assert np.allclose(shares[90:98], 1 / 24, atol=0.01), "records of a category equally often"
    with pytest.raises(ValueError, match="records with boxes"):
        ClassAwareOrder(categories=RaggedIndex.from_rows([[], []]), seed=0)


@pytest.mark.parametrize("order", orders())
@pytest.mark.parametrize("total", [1, 3, 4])
def test_grouped_batches(order, total):
    groups = np.asarray([0, 1, 0, 0, 1, 0, 1])

    def grouped(count, **arguments):
        sampler = StreamBatchSampler(
            order=order, total_batch_size=total, groups=groups, **arguments
        )
        return list(islice(sampler, count))

    whole = grouped(60)
    stream = [record for batch in whole for _, record in batch]
    first = 0
    for epoch in range(5):  # every epoch has the samples it would have without groups
        length = order.length(epoch)
        assert sorted(stream[first : first + length]) == sorted(order.order(epoch).tolist())
        first += length
    for start in (1, 7, 20):
        assert grouped(5, start_iter=start) == whole[start : start + 5]
    if total == 4:
        halves = [grouped(60, rank=rank, world_size=2) for rank in range(2)]
        assert [a + b for a, b in zip(*halves, strict=True)] == whole


def test_most_batches_are_of_one_group():
    groups = np.random.default_rng(0).integers(0, 2, 1003)
    sampler = StreamBatchSampler(
        order=UniformOrder(size=1003, seed=0), total_batch_size=8, groups=groups
    )
    stream = list(islice(sampler, 500))
    mixed = [len({groups[record] for _, record in batch}) > 1 for batch in stream]
    assert sum(mixed) <= 3 * 4, "at most three per epoch"
    kinds = [groups[batch[0][1]] for batch in stream[:100]]
    assert 20 < sum(kinds) < 80, "the groups take turns"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_batch_size": 3, "world_size": 2}, "got 3 for 2"),
        ({"total_batch_size": 0}, "positive multiple"),
        ({"total_batch_size": 2, "start_iter": -1}, "start_iter"),
        ({"total_batch_size": 2, "order": UniformOrder(size=0, seed=0)}, "no sample"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        StreamBatchSampler(**{"order": UniformOrder(size=5, seed=0), **arguments})
