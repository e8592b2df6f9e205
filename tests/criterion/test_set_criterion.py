import itertools

import pytest
import torch

from cqdino_d2.criterion import BoxLosses, FocalLoss, HungarianMatcher, SetCriterion
from cqdino_d2.structures import ClassSlots, DecoderOutput, ImageTargets, Proposals


def selected(batch=1, slots=3):
    return ClassSlots(
        features=torch.zeros(batch, slots, 4),
        vocab_ids=torch.arange(slots).expand(batch, -1),
        valid=torch.ones(batch, slots, dtype=torch.bool),
    )


def output(logits, boxes, layers=1):
    return DecoderOutput(logits.expand(layers, *logits.shape), boxes.expand(layers, *boxes.shape))


def proposals(logits, boxes):
    return Proposals(torch.zeros(1), boxes, logits, torch.zeros(1))


def run(logits, boxes, targets, **changes):
    losses = {"focal": FocalLoss(), "boxes": BoxLosses()}
    criterion = SetCriterion(matcher=HungarianMatcher(), losses=losses, category_loss=None)
    categories = selected(len(targets), logits.shape[-1])
    return criterion(
        output(logits, boxes, **changes), proposals(logits, boxes), categories, targets, None
    )


def test_matcher_finds_the_cheapest_assignment():
    torch.manual_seed(0)
    matcher = HungarianMatcher()
    logits, boxes = torch.randn(4, 3), torch.rand(4, 4) * 0.5 + 0.2
    classes, wanted = torch.eye(3), torch.rand(3, 4) * 0.5 + 0.2

    def total(query_ids):
        # the cost of an assignment is what matching these queries alone would pay
        p = logits.sigmoid()
        positive = -p.log() * 0.25 * (1 - p) ** 2
        negative = -(1 - p).log() * 0.75 * p**2
        value = 0.0
        for box, query in enumerate(query_ids):
            for slot in range(3):
                chosen = positive if classes[box, slot] else negative
                value += 2 * float(chosen[query, slot])
            value += 5 * float((boxes[query] - wanted[box]).abs().sum())
            value -= 2 * float(giou(boxes[query], wanted[box]))
        return value

    def giou(a, b):
        from torchvision.ops import box_convert, generalized_box_iou

        a, b = (box_convert(x[None], "cxcywh", "xyxy") for x in (a, b))
        return generalized_box_iou(a, b)[0, 0]

    best = min(itertools.permutations(range(4), 3), key=total)
    [(query_ids, target_ids)] = matcher(logits[None], boxes[None], [classes], [wanted])
    assert tuple(query_ids[target_ids.argsort()].tolist()) == best


def test_dinos_class_cost_looks_at_the_boxes_own_category_alone():
    """Query 0 is sure of another category: a cost where all slots count, none for DINO."""
    logits = torch.tensor([[[2.0, 4.0], [1.9, -4.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]]])
    wanted = ([torch.tensor([[1.0, 0.0]])], [boxes[0, :1]])
    [(over_all, _)] = HungarianMatcher()(logits, boxes, *wanted)
    [(own, _)] = HungarianMatcher(all_slots=False)(logits, boxes, *wanted)
    assert over_all.tolist() == [1] and own.tolist() == [0]


def test_what_is_not_finite_is_matched_last_and_shows_in_the_loss():
    logits, boxes = torch.zeros(1, 3, 3), torch.rand(1, 3, 4)
    logits[0, 1] = torch.nan
    target = ImageTargets(torch.rand(2, 4), torch.tensor([0, 1]), (10, 10))
    [(query_ids, _)] = HungarianMatcher()(
        logits, boxes, [torch.eye(3)[:2]], [target.boxes_cxcywh_norm]
    )
    assert query_ids.tolist() == [0, 2]
    assert run(logits, boxes, [target])["loss_class"].isnan()


def test_images_of_a_batch_are_matched_apart():
    torch.manual_seed(0)
    logits, boxes = torch.randn(3, 5, 4), torch.rand(3, 5, 4)
    classes = [torch.eye(4)[:2], torch.zeros(0, 4), torch.eye(4)]
    wanted = [torch.rand(len(rows), 4) for rows in classes]
    together = HungarianMatcher()(logits, boxes, classes, wanted)
    for i, (query_ids, target_ids) in enumerate(together):
        [alone] = HungarianMatcher()(
            logits[i : i + 1], boxes[i : i + 1], classes[i : i + 1], wanted[i : i + 1]
        )
        assert torch.equal(query_ids, alone[0]) and torch.equal(target_ids, alone[1])
        assert len(target_ids) == len(wanted[i])


def test_a_perfect_prediction_costs_next_to_nothing():
    logits = torch.full((1, 2, 3), -12.0)
    logits[0, 1, 2] = 12.0
    boxes = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.2, 0.3]]])
    target = ImageTargets(boxes[0, 1:], torch.tensor([2]), (10, 10))
    losses = run(logits, boxes, [target])
    assert all(loss < 1e-4 for loss in losses.values())


def test_a_category_that_was_not_selected_supervises_only_the_box():
    logits = torch.zeros(1, 1, 3, requires_grad=True)
    boxes = torch.tensor([[[0.4, 0.4, 0.2, 0.2]]], requires_grad=True)
    target = ImageTargets(torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.tensor([7]), (10, 10))
    losses = run(logits, boxes, [target])
    assert losses["loss_l1"].item() == pytest.approx(5 * 0.2, rel=1e-5)
    losses["loss_class"].backward()
    assert (logits.grad > 0).all(), "every slot is negative"


def test_losses_are_divided_by_the_number_of_boxes():
    torch.manual_seed(0)
    logits, boxes = torch.randn(1, 6, 3), torch.rand(1, 6, 4)
    target = ImageTargets(torch.rand(2, 4), torch.tensor([0, 1]), (10, 10))
    once = run(logits, boxes, [target])
    twice = run(logits.repeat(2, 1, 1), boxes.repeat(2, 1, 1), [target, target])
    for name in ("loss_class", "loss_l1", "loss_giou"):
        torch.testing.assert_close(once[name], twice[name])
