"""The gradient's shares against autograd and by hand."""

import math

import pytest
import torch
from detectron2.utils.events import EventStorage

from cqdino_d2.criterion import (
    GradientBalance,
    Matched,
    sigmoid_focal_gradient,
    sigmoid_focal_loss,
)
from cqdino_d2.structures import LayerPredictions


@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (0.6, 1.0), (0.5, 0.0)])
def test_the_gradient_is_that_of_the_loss(alpha, gamma):
    logits = torch.linspace(-8, 8, 41, dtype=torch.float64).repeat(2).requires_grad_()
    targets = torch.cat([torch.zeros(41), torch.ones(41)]).double()
    sigmoid_focal_loss(logits, targets, alpha, gamma).sum().backward()
    found = sigmoid_focal_gradient(logits.detach(), targets, alpha, gamma)
    torch.testing.assert_close(found, logits.grad.abs())


def by_hand(p, positive):
    """|dL/dx| of the focal loss with alpha 0.25 and gamma 2, from its derivative on paper."""
    if positive:
        return 0.25 * (1 - p) ** 2 * (1 - p - 2 * p * math.log(p))
    return 0.75 * p**2 * (p - 2 * (1 - p) * math.log(1 - p))


def test_the_figures_against_a_hand_computation():
    probabilities = torch.tensor([[[0.5, 0.2, 0.01], [0.05, 0.9, 0.01]]])
    targets = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    figures = GradientBalance().figures(probabilities.logit(), targets)
    hard = by_hand(0.2, False) + by_hand(0.9, False)
    negative = hard + by_hand(0.05, False) + 2 * by_hand(0.01, False)
    assert figures["positive_to_negative"] == pytest.approx(by_hand(0.5, True) / negative, rel=1e-5)
    assert figures["hard_share"] == pytest.approx(hard / negative, rel=1e-5)
    assert figures["hard_count_share"] == pytest.approx(2 / 5)
    assert figures["negatives_per_positive"] == 5


def test_easy_negatives_dilute_the_positives():
    """A vocabulary of ten times the size: a tenth of the ratio where all negatives are alike."""
    ratios = []
    for num_categories in (10, 100):
        logits = torch.full((1, 4, num_categories), -2.0)
        targets = torch.zeros_like(logits)
        targets[0, :, 0] = 1
        ratios.append(GradientBalance().figures(logits, targets)["positive_to_negative"])
    assert ratios[0] / ratios[1] == pytest.approx(99 / 9)


def last_layer(logits, targets):
    nothing = torch.zeros(0, dtype=torch.int64)
    boxes = torch.zeros(0, 4)
    return (
        LayerPredictions("", logits, torch.zeros(1, 2, 4)),
        Matched(nothing, nothing, nothing, targets, boxes, 1.0, nothing, nothing),
    )


def test_it_looks_every_so_many_steps_and_where_there_are_positives():
    balance, logits = GradientBalance(period=3), torch.zeros(1, 2, 4)
    targets = torch.zeros_like(logits)
    targets[0, 0, 0] = 1
    with EventStorage() as storage:
        for step in range(7):
            storage.iter = step
            balance(*last_layer(logits, targets if step != 3 else torch.zeros_like(targets)))
        history = storage.history("gradient/positive_to_negative").values()
    assert [step for _, step in history] == [0, 6]
    assert balance.figures(logits, torch.ones_like(logits)) == {}


def test_a_period_is_at_least_one_step():
    with pytest.raises(ValueError, match="got 0"):
        GradientBalance(period=0)
