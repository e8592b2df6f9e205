"""What the losses of the layers, the groups and the processes are divided by."""

import math
from unittest import mock

import pytest
import torch

from cqdino_d2.criterion import set_criterion
from cqdino_d2.structures import DecoderOutput, DenoisingGroup
from tests.criterion.test_matcher_costs import abs_difference, giou
from tests.slots import make_criterion, make_proposals, make_slots, make_targets

NUM_SLOTS, NUM_QUERIES, GROUPS, MOST = 4, 6, 3, 2
WEIGHTS = dict(class_weight=3.0, l1_weight=5.0, giou_weight=2.0)


def targets():
    """Two boxes and one, of categories 2, 0 and 3."""
    two = make_targets([[0.3, 0.4, 0.2, 0.5], [0.6, 0.5, 0.5, 0.2]], [2, 0])
    return [two, make_targets([[0.5, 0.7, 0.3, 0.1]], [3])]


def random_boxes(*size):
    centre, extent = 0.3 + 0.4 * torch.rand(*size, 2), 0.1 + 0.2 * torch.rand(*size, 2)
    return torch.cat([centre, extent * torch.tensor([1.0, 0.5])], dim=-1)


def denoising_group():
    """Three groups of two positives and two negatives, the second image half empty."""
    ids = torch.tensor([[0, 1, -1, -1], [0, -1, -1, -1]]).repeat(1, GROUPS)
    size = ids.shape[1] + NUM_QUERIES
    mask = torch.zeros(size, size, dtype=torch.bool)
    return DenoisingGroup(torch.zeros(2, ids.shape[1], 1), random_boxes(2, 12), mask, ids, GROUPS)


def predictions(denoising=True):
    """The output of two layers, the proposals and the denoising group, always the same."""
    torch.manual_seed(0)
    group = denoising_group() if denoising else None
    size = (2, 2, (group.content.shape[1] if denoising else 0) + NUM_QUERIES)
    output = DecoderOutput(torch.randn(*size, NUM_SLOTS), random_boxes(*size))
    proposals = make_proposals(None, random_boxes(2, NUM_QUERIES), torch.randn(2, 6, NUM_SLOTS))
    return output, proposals, group


def run(denoising=True, given=None, **settings):
    """The losses, the output of two layers and the denoising group."""
    output, proposals, group = predictions(denoising)
    criterion = make_criterion(**(WEIGHTS | settings))
    slots = make_slots(torch.zeros(2, NUM_SLOTS, 1))
    return criterion(output, proposals, slots, given or targets(), group), output, group


def focal(logit, positive):
    p = 1 / (1 + math.exp(-logit))
    if positive:
        return -0.25 * (1 - p) ** 2 * math.log(p)
    return -0.75 * p**2 * math.log(1 - p)


def denoising_by_loops(logits, boxes, group):
    """Sums of class, L1 and GIoU losses over all denoising queries of one layer."""
    sums = [0.0, 0.0, 0.0]
    for image, target in enumerate(targets()):
        for query, box_id in enumerate(group.target_ids[image].tolist()):
            category = -1 if box_id < 0 else int(target.vocab_ids[box_id])
            for slot, logit in enumerate(logits[image, query].tolist()):
                sums[0] += focal(logit, slot == category)
            if box_id >= 0:
                found = boxes[image, query].tolist()
                wanted = target.boxes_cxcywh_norm[box_id].tolist()
                sums[1] += sum(map(abs_difference, found, wanted))
                sums[2] += 1 - giou(found, wanted)
    return sums


def test_denoising_losses_are_divided_by_boxes_and_groups():
    losses, output, group = run()
    num_boxes = 3
    for layer, suffix in ((0, "_dn_0"), (1, "_dn")):
        sums = denoising_by_loops(output.logits[layer], output.boxes_cxcywh_norm[layer], group)
        for kind, weight, total in zip(("class", "l1", "giou"), (3, 5, 2), sums, strict=True):
            expected = weight * total / (num_boxes * GROUPS)
            assert losses[f"loss_{kind}{suffix}"].item() == pytest.approx(expected, rel=1e-4)


def test_object_queries_are_matched_and_counted_without_the_groups():
    with_groups, output, _ = run()
    matched = {name: loss for name, loss in with_groups.items() if "_dn" not in name}
    _, objects = output.split(12)
    criterion = make_criterion(**WEIGHTS)
    proposals = make_proposals(None, objects.boxes_cxcywh_norm[0], objects.logits[0])
    slots = make_slots(torch.zeros(2, NUM_SLOTS, 1))
    alone = criterion(objects, proposals, slots, targets(), None)
    for name in ("loss_class", "loss_l1", "loss_giou", "loss_class_0", "loss_l1_0", "loss_giou_0"):
        torch.testing.assert_close(matched[name], alone[name])


def test_each_weight_scales_its_own_loss():
    before, *_ = run()
    for kind in ("class", "l1", "giou"):
        after, *_ = run(**{f"{kind}_weight": 7 * WEIGHTS[f"{kind}_weight"]})
        for name, loss in after.items():
            factor = 7 if name.startswith(f"loss_{kind}") else 1
            torch.testing.assert_close(loss, factor * before[name])


def two_processes(other):
    """`all_reduce` adds what the other process holds, in place."""

    def add(tensor):
        tensor += other

    return mock.patch.multiple(
        set_criterion.dist,
        is_available=lambda: True,
        is_initialized=lambda: True,
        all_reduce=add,
        get_world_size=lambda: 2,
    )


def test_boxes_are_the_mean_over_processes():
    """3 boxes here and 9 there: both processes divide by 6."""
    alone, *_ = run()
    with two_processes(9.0):
        shared, *_ = run()
    for name, loss in shared.items():
        torch.testing.assert_close(loss, alone[name] * 3 / 6)


def test_where_no_process_has_a_box_the_losses_are_divided_by_one():
    nothing = [make_targets([], []), make_targets([], [])]
    losses, output, _ = run(denoising=False, given=nothing)
    expected = sum(focal(x, False) for x in output.logits[-1].flatten().tolist())
    assert losses["loss_class"].item() == pytest.approx(3 * expected, rel=1e-4)
    assert losses["loss_l1"] == losses["loss_giou"] == 0


def test_the_boxes_of_all_parts_of_a_step_are_counted():
    def part(*counts):
        return [{"instances": FakeInstances(n)} for n in counts]

    output, proposals, group = predictions()
    criterion, slots = make_criterion(**WEIGHTS), make_slots(torch.zeros(2, NUM_SLOTS, 1))
    with criterion.counted_over([part(2, 1), part(4, 2)]):  # (3 + 6) / 2 parts
        counted = criterion(output, proposals, slots, targets(), group)
    alone = criterion(output, proposals, slots, targets(), group)
    for name, loss in counted.items():
        torch.testing.assert_close(loss, alone[name] * 3 / 4.5)


class FakeInstances:
    def __init__(self, count):
        self.gt_classes = torch.zeros(count, dtype=torch.int64)

    def __len__(self):
        return len(self.gt_classes)
