"""A memo sees every change of content, however it was made, and nothing else."""

import copy
import pickle

import pytest
import torch
from torch import nn

from cqdino_d2.layers import ParameterMemo


class Counted:
    """A linear map that is remembered, and how often it was computed."""

    def __init__(self):
        self.layer = nn.Linear(5, 3)
        self.memo, self.count = ParameterMemo(), 0

    def __call__(self):
        def compute():
            self.count += 1
            return self.layer(torch.ones(2, 5))

        return self.memo.get(list(self.layer.parameters()), compute)


@pytest.fixture
def counted():
    with torch.no_grad():
        yield Counted()


def through_data(layer):
    layer.weight.data.copy_(layer.weight.data * 1.05)


def in_place(layer):
    layer.bias.add_(1.0)


def one_number(layer):
    layer.weight.data[2, 4] = torch.nextafter(layer.weight.data[2, 4], torch.tensor(9.0))


def rows_swapped(layer):
    layer.weight.data.copy_(layer.weight.data.flip(0))


def through_numpy(layer):
    layer.weight.numpy()[0, 0] += 1.0


def other_storage(layer):
    layer.weight.data = layer.weight.data + 1.0


def loaded(layer):
    layer.load_state_dict(nn.Linear(5, 3).state_dict())


CHANGES = (through_data, in_place, one_number, rows_swapped, through_numpy, other_storage, loaded)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(counted, change):
    first = counted()
    assert counted() is first and counted.count == 1
    change(counted.layer)
    assert torch.equal(counted(), counted.layer(torch.ones(2, 5)))
    assert counted.count == 2
    assert counted() is counted() and counted.count == 2


def test_the_same_numbers_elsewhere_are_no_change(counted):
    first = counted()
    counted.layer.weight.data = counted.layer.weight.data.clone()
    counted.layer.load_state_dict(copy.deepcopy(counted.layer.state_dict()))
    assert counted() is first


def test_autocast_is_a_condition(counted):
    plain = counted()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert counted().dtype == torch.bfloat16
    assert torch.equal(counted(), plain)
    assert counted.count == 3


def test_nothing_is_kept_with_gradients_or_in_copies(counted):
    with torch.enable_grad():
        assert counted().requires_grad and counted() is not counted()
    counted()
    count = counted.count
    assert counted() is not None and counted.count == count
    for other in (copy.deepcopy(counted), pickle.loads(pickle.dumps(counted))):
        other()
        assert other.count == count + 1


def test_not_a_number_is_computed_anew(counted):
    counted.layer.weight.data.fill_(float("nan"))
    counted()
    counted()
    assert counted.count == 2


def test_whom_a_result_belongs_to_is_a_condition_also_while_another_is_computed(counted):
    memo, parameters = counted.memo, list(counted.layer.parameters())

    def compute_first():  # another thread asks for something else meanwhile
        assert memo.get(parameters, lambda: "second", of="second") == "second"
        return "first"

    assert memo.get(parameters, compute_first, of="first") == "first"
    assert memo.get(parameters, lambda: "second anew", of="second") == "second anew"
    assert memo.get(parameters, lambda: "never", of="second") == "second anew"
