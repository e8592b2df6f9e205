from itertools import islice

import numpy as np
import pytest

from cqdino_d2.data.samplers import (
    RepeatFactorOrder,
    StreamBatchSampler,
    UniformOrder,
    repeat_factors,
)


def orders():
    factors = np.asarray([1.0, 2.5, 1.25, 3.0, 1.0])
    return [UniformOrder(size=7, seed=3), RepeatFactorOrder(repeat_factors=factors, seed=3)]


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
    expected = np.concatenate([order.order(epoch) for epoch in range(20)])[:120]
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
    def record(*categories):
        return {"annotations": [{"category_id": c} for c in categories]}

    records = [record(0), record(0, 0), record(0, 1), record()]
    # f(0) = 3/4, f(1) = 1/4
    expected = [1.0, 1.0, (0.36 / 0.25) ** 0.5, 1.0]
    assert np.allclose(repeat_factors(records, threshold=0.36), expected)


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
