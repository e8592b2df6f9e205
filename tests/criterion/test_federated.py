"""The federated loss against plain loops, and what it draws."""

import math

import pytest
import torch

from cqdino_d2.criterion import FederatedFocalLoss, FocalLoss, Matched
from cqdino_d2.structures import LayerPredictions, ListedCategories, random_vocabulary

COUNTS = torch.tensor([0, 1, 4, 9, 100, 25, 16])
NOTHING = torch.zeros(0, dtype=torch.int64)


def make_loss(num_sampled, counts=COUNTS, **kwargs):
    return FederatedFocalLoss(
        image_counts=None if counts is None else lambda: counts,
        vocabulary=random_vocabulary(len(COUNTS)),
        num_sampled=num_sampled,
        **kwargs,
    )


def make_case(slot_vocab_ids, positives, seed=0, listed=()):
    """Predictions of two images with 3 queries; positives are (image, query, slot), lists pairs."""
    torch.manual_seed(seed)
    ids = torch.tensor(slot_vocab_ids)
    logits = torch.randn(2, 3, ids.shape[1], requires_grad=True)
    targets = torch.zeros(logits.shape)
    for place in positives:
        targets[place] = 1
    vocab_ids = torch.tensor([int(ids[image, slot]) for image, _, slot in positives])
    boxes = torch.zeros(0, 4)
    lists = tuple(ListedCategories(*map(torch.tensor, pair)) for pair in listed)
    matched = Matched(NOTHING, NOTHING, NOTHING, targets, boxes, 2.0, vocab_ids, ids, listed=lists)
    return LayerPredictions("", logits, torch.zeros(2, 3, 4)), matched


def focal(logit, positive):
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def test_slots_of_drawn_categories_count_and_no_others():
    """Slots differ between the images, as CQ-DINO's do; one is empty."""
    predictions, matched = make_case([[4, 2, 6, 1], [3, -1, 0, 4]], [(0, 1, 1), (1, 0, 0)])
    loss = make_loss(4, weight=3.0)
    chosen = [2, 3, 4, 6]
    loss.draw = lambda present: torch.tensor(chosen)
    found = loss(predictions, matched)["class"]
    total = 0.0
    for image in range(2):
        for query in range(3):
            for slot, category in enumerate(matched.slot_vocab_ids[image].tolist()):
                if category in chosen:
                    positive = bool(matched.class_targets[image, query, slot])
                    total += focal(predictions.logits[image, query, slot].item(), positive)
    assert found.item() == pytest.approx(3 * total / 2, rel=1e-5)
    found.backward()
    assert (
        not predictions.logits.grad[0, :, 3].any() and not predictions.logits.grad[1, :, 1:3].any()
    )
    assert predictions.logits.grad[0, :, :3].all()


def test_lists_say_what_is_absent_and_what_is_unfinished():
    """5 is absent from the first image alone, of 2 and 4 in it not every object has its box."""
    slots = [[4, 2, 6, 1, 5], [3, -1, 5, 4, 2]]
    positives = [(0, 1, 1), (0, 2, 0), (1, 0, 0)]
    lists = [([5, 0], [2, 4]), ([6], [])]
    predictions, matched = make_case(slots, positives, listed=lists)
    loss = make_loss(4, listed=True)
    loss.draw = lambda present: torch.tensor([2, 3, 4])
    found = loss(predictions, matched)["class"]
    total = 0.0
    for image, (absent, unfinished) in enumerate(lists):
        for query in range(3):
            for slot, category in enumerate(slots[image]):
                positive = bool(matched.class_targets[image, query, slot])
                known = category in (2, 3, 4) or category in absent
                if positive or (known and category not in unfinished):
                    total += focal(predictions.logits[image, query, slot].item(), positive)
    assert found.item() == pytest.approx(total / 2, rel=1e-5)
    found.backward()
    reached = predictions.logits.grad != 0
    assert reached[0, :, 4].all() and not reached[1, :, 2].any(), "absent from the first alone"
    assert reached[0, :, 1].tolist() == [False, True, False], "unfinished: the box alone"
    assert reached[0, :, 0].tolist() == [False, False, True]
    assert reached[1, :, 3:].all() and not reached[1, :, 1].any()


def test_lists_are_not_heeded_unless_asked_for_and_missed_if_they_are():
    slots, positives = [[4, 2, 6, 1], [3, -1, 0, 4]], [(0, 1, 1), (1, 0, 0)]
    lists = [([6], [2]), ([0], [])]
    with_lists, without = (make_case(slots, positives, listed=one) for one in (lists, ()))
    loss = make_loss(4)
    loss.draw = lambda present: torch.tensor([2, 3, 4])
    assert torch.equal(loss(*with_lists)["class"], loss(*without)["class"])
    with pytest.raises(ValueError, match=r"dataloader\.train\.mapper\.category_lists"):
        make_loss(4, listed=True)(*without)


def test_with_all_categories_it_is_the_focal_loss():
    predictions, matched = make_case([list(range(7))] * 2, [(0, 1, 1), (1, 0, 5)])
    everything = make_loss(7, counts=None)(predictions, matched)["class"]
    torch.testing.assert_close(everything, FocalLoss()(predictions, matched)["class"])


def test_present_categories_are_always_drawn_and_each_category_once():
    torch.manual_seed(0)
    loss = make_loss(4)
    for present in ([], [0], [3, 5], [1, 2, 3, 4, 5]):
        drawn = loss.draw(torch.tensor(present, dtype=torch.int64)).tolist()
        assert set(present) <= set(drawn) and len(drawn) == len(set(drawn))
        assert len(drawn) == max(4, len(present))
        assert 0 not in set(drawn) - set(present), "no image has it"


def test_a_vocabulary_smaller_than_the_set_is_taken_whole():
    drawn = make_loss(50).draw(torch.tensor([0, 4]))
    assert sorted(drawn.tolist()) == [0, 1, 2, 3, 4, 5, 6]


def test_categories_are_drawn_by_the_root_of_their_images():
    torch.manual_seed(0)
    loss = make_loss(1)
    drawn = torch.cat([loss.draw(NOTHING) for _ in range(4000)]).bincount(minlength=7)
    expected = COUNTS.double().sqrt() / COUNTS.double().sqrt().sum()
    torch.testing.assert_close(drawn / 4000.0, expected.float(), atol=0.035, rtol=0)


def test_every_layer_draws_anew():
    torch.manual_seed(0)
    loss = make_loss(2)
    sets = {tuple(sorted(loss.draw(torch.tensor([3])).tolist())) for _ in range(50)}
    assert len(sets) > 2


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make_loss(0)
    with pytest.raises(ValueError, match=r"counts of 7 categories are expected, got \(3,\)"):
        make_loss(2, counts=torch.ones(3)).draw(NOTHING)
