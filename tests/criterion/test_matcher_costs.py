"""Each cost of the matcher by itself, against loops over plain numbers."""

import math
from unittest import mock

import pytest
import torch
from scipy import optimize

from cqdino_d2.criterion import HungarianMatcher

NUM_QUERIES, NUM_SLOTS, COUNTS = 5, 4, (3, 0, 2)
ZERO = dict(class_weight=0.0, l1_weight=0.0, giou_weight=0.0)


def make_batch():
    """Predictions and targets of three images; a row may be empty or hold several slots."""
    generator = torch.Generator().manual_seed(3)

    def boxes(count):
        centre = 0.2 + 0.6 * torch.rand(count, 2, generator=generator)
        size = torch.rand(count, 2, generator=generator) * torch.tensor([0.4, 0.15]) + 0.02
        return torch.cat([centre, size], dim=1)

    logits = 2 * torch.randn(len(COUNTS), NUM_QUERIES, NUM_SLOTS, generator=generator)
    predicted = torch.stack([boxes(NUM_QUERIES) for _ in COUNTS])
    classes = [torch.eye(NUM_SLOTS)[torch.arange(n)] for n in COUNTS]
    classes[0][1] = 0.0  # its category was not selected
    classes[2][1] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    return logits, predicted, classes, [boxes(n) for n in COUNTS]


def costs(**settings):
    """What the matcher hands to the assignment, per image (Q, N) as nested lists."""
    seen = []

    def keep(cost):
        seen.append(cost.tolist())
        return solve(cost)

    solve = optimize.linear_sum_assignment
    with mock.patch.object(optimize, "linear_sum_assignment", keep):
        HungarianMatcher(**(ZERO | settings))(*make_batch())
    return seen


def by_loops(cost_of_pair):
    """The same from a function of (logits, box, classes, wanted box), all plain lists."""
    logits, predicted, classes, wanted = make_batch()
    return [
        [
            [
                cost_of_pair(logits[i, q].tolist(), predicted[i, q].tolist(), row, box)
                for row, box in zip(classes[i].tolist(), wanted[i].tolist(), strict=True)
            ]
            for q in range(NUM_QUERIES)
        ]
        for i in range(len(COUNTS))
    ]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(other), rtol=1e-4, atol=1e-5)


def class_cost(logits, row, alpha, gamma, all_slots):
    total = 0.0
    for logit, wanted in zip(logits, row, strict=True):
        p = 1 / (1 + math.exp(-logit))
        positive = -alpha * (1 - p) ** gamma * math.log(p)
        negative = -(1 - alpha) * p**gamma * math.log(1 - p)
        if all_slots:
            total += positive if wanted else negative
        elif wanted:
            total += (positive - negative) / sum(row)
    return total


@pytest.mark.parametrize("all_slots", [True, False])
@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (0.6, 1.0)])
def test_the_class_cost(all_slots, alpha, gamma):
    found = costs(class_weight=3.0, alpha=alpha, gamma=gamma, all_slots=all_slots)
    expected = by_loops(lambda x, _, row, __: 3 * class_cost(x, row, alpha, gamma, all_slots))
    assert_same(found, expected)


def test_the_class_cost_by_default_is_that_of_the_paper():
    expected = by_loops(lambda x, _, row, __: 2 * class_cost(x, row, 0.25, 2.0, True))
    zero = {name: 0.0 for name in ("l1_weight", "giou_weight")}
    assert_same(costs(class_weight=HungarianMatcher().class_weight, **zero), expected)


def test_the_l1_cost_is_that_of_centre_and_size():
    expected = by_loops(lambda _, box, __, wanted: 5 * sum(map(abs_difference, box, wanted)))
    assert_same(costs(l1_weight=5.0), expected)


def abs_difference(a, b):
    return abs(a - b)


def giou(a, b):
    """Generalised IoU of two cxcywh boxes, side by side."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = corners(a), corners(b)
    width = max(0.0, min(ax1, bx1) - max(ax0, bx0))
    height = max(0.0, min(ay1, by1) - max(ay0, by0))
    overlap = width * height
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - overlap
    hull = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
    return overlap / union - (hull - union) / hull


def corners(box):
    x, y, width, height = box
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def test_the_giou_cost_falls_with_the_overlap():
    expected = by_loops(lambda _, box, __, wanted: -2 * giou(box, wanted))
    assert_same(costs(giou_weight=2.0), expected)
    assert min(min(row) for row in expected[0]) < 0 < max(max(row) for row in expected[0])


def test_the_costs_add_up():
    def pair(logits, box, row, wanted):
        l1 = sum(map(abs_difference, box, wanted))
        return 2 * class_cost(logits, row, 0.25, 2.0, True) + 5 * l1 - 2 * giou(box, wanted)

    defaults = dict(class_weight=2.0, l1_weight=5.0, giou_weight=2.0)
    assert {name: getattr(HungarianMatcher(), name) for name in defaults} == defaults
    assert_same(costs(**defaults), by_loops(pair))
