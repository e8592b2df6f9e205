"""Weights between two models."""

import pytest
import torch

from cqdino_d2.engine import interpolated

BEFORE = {"a": torch.tensor([1.0, 3.0]), "steps": torch.tensor(3)}
AFTER = {"a": torch.tensor([5.0, 3.0]), "steps": torch.tensor(7)}


def test_a_share_of_the_way():
    assert interpolated(BEFORE, AFTER, 0.25)["a"].tolist() == [2.0, 3.0]
    assert torch.equal(interpolated(BEFORE, AFTER, 0)["a"], BEFORE["a"])
    end = interpolated(BEFORE, AFTER, 1)
    assert torch.equal(end["a"], AFTER["a"]) and end["steps"] == 7


@pytest.mark.parametrize(
    ("before", "share", "message"),
    [
        (BEFORE, 1.5, r"lies in 0\.\.1, got 1\.5"),
        (BEFORE | {"b": torch.ones(1)}, 0.5, "1 of 2 differ in name or shape, b"),
        (BEFORE | {"a": torch.ones(3)}, 0.5, "1 of 2 differ in name or shape, a"),
    ],
)
def test_what_cannot_be_interpolated(before, share, message):
    with pytest.raises(ValueError, match=message):
        interpolated(before, AFTER, share)
