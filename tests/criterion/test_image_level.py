"""Losses without the image-level images, against losses computed by hand."""

import math

import pytest
import torch

from cqdino_d2.criterion import (
    BoxLosses,
    FederatedFocalLoss,
    FocalLoss,
    HungarianMatcher,
    Matched,
    SemanticLoss,
    SetCriterion,
)
from cqdino_d2.criterion.image_level import of_images
from cqdino_d2.structures import (
    ClassSlots,
    DecoderOutput,
    DenoisingGroup,
    ImageTargets,
    LayerPredictions,
    ListedCategories,
    Proposals,
    random_vocabulary,
)

SLOTS, QUERIES, DENOISING = 3, 2, 2
BOX = torch.tensor([0.4, 0.6, 0.2, 0.4])
FAR = torch.tensor([0.9, 0.9, 0.1, 0.1])


def box_of(shift):
    return BOX + torch.tensor([shift, 0.0, 0.0, 0.0])


def focal(logit, positive):
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def expected(logits, shifts, normaliser):
    """Class, L1 and GIoU losses of images whose query 0 has the box moved by a shift."""
    class_loss = sum(
        focal(logit, query == 0 and slot == 1)
        for image in logits.tolist()
        for query, row in enumerate(image)
        for slot, logit in enumerate(row)
    )
    l1 = 5 * sum(shifts) / normaliser
    giou = 0.0
    for shift in shifts:  # boxes of width 0.2 and the same height, side by side or overlapping
        inner, outer = max(0.0, 0.2 - shift), 0.2 + shift
        union = 0.4 - inner
        giou += 2 * (1 - (inner / union - (outer - union) / outer)) / normaliser
    return {"class": class_loss / normaliser, "l1": l1, "giou": giou}


def make_case(kinds, shifts):
    """Images of one box each; query 0 of every layer is its, moved; all boxes of category 1."""
    torch.manual_seed(len(kinds))
    batch = len(kinds)
    logits = torch.randn(2, batch, DENOISING + QUERIES, SLOTS, requires_grad=True)
    boxes = torch.stack(
        [torch.stack([box_of(s), FAR, box_of(s), FAR]) for s in shifts]
    ).requires_grad_()
    hidden = torch.randn(2, batch, DENOISING + QUERIES, 4, requires_grad=True)
    output = DecoderOutput(logits, boxes.expand(2, -1, -1, -1), {"hidden": hidden})
    first = torch.randn(batch, QUERIES, SLOTS, requires_grad=True)
    proposals = Proposals(torch.zeros(1), boxes[:, DENOISING:], first, torch.zeros(1))
    slots = ClassSlots(
        torch.zeros(batch, SLOTS, 4),
        torch.arange(SLOTS).expand(batch, -1),
        torch.ones(batch, SLOTS, dtype=torch.bool),
    )
    targets = [
        ImageTargets(BOX[None], torch.tensor([1]), (10, 12), torch.randn(1, 5), image_level=kind)
        for kind in kinds
    ]
    denoising = DenoisingGroup(
        torch.zeros(batch, DENOISING, 4),
        boxes[:, :DENOISING],
        torch.zeros(4, 4, dtype=torch.bool),
        torch.tensor([[0, -1]] * batch),
        num_groups=1,
    )
    return output, proposals, slots, targets, denoising


def run(case, masked, federated=False):
    vocabulary = random_vocabulary(SLOTS)
    focal_loss = (
        FederatedFocalLoss(image_counts=None, vocabulary=vocabulary, num_sampled=9)
        if federated
        else FocalLoss()
    )
    criterion = SetCriterion(
        matcher=HungarianMatcher(),
        losses={
            "focal": focal_loss,
            "boxes": BoxLosses(),
            "semantic": SemanticLoss(
                dim=4, text_dim=5, table=lambda: torch.eye(3, 5), vocabulary=vocabulary
            ),
        },
        category_loss=None,
        box_images_only=masked,
    )
    return criterion, criterion(*case)


@pytest.mark.parametrize("masked", [(), ("l1",), ("giou", "class"), ("l1", "giou", "class")])
@pytest.mark.parametrize("federated", [False, True])
def test_each_loss_is_that_of_the_images_it_counts(masked, federated):
    """Five images, two of them image-level; every layer, denoising included, and the proposals."""
    kinds = [False, True, True, False, False]
    shifts = [0.05, 0.1, 0.15, 0.25, 0.02]
    case = make_case(kinds, shifts)
    output, proposals, *_ = case
    _, losses = run(case, masked, federated)
    boxes_alone = [i for i, kind in enumerate(kinds) if not kind]
    layers = {
        "_dn_0": output.logits[0, :, :DENOISING],
        "_dn": output.logits[1, :, :DENOISING],
        "_0": output.logits[0, :, DENOISING:],
        "": output.logits[1, :, DENOISING:],
        "_enc": proposals.logits,
    }
    for layer, logits in layers.items():
        whole = expected(logits, shifts, 5)
        some = expected(logits[boxes_alone], [shifts[i] for i in boxes_alone], 5)
        for name in ("class", "l1", "giou"):
            wanted = some if name in masked and layer != "_enc" else whole
            assert losses[f"loss_{name}{layer}"].item() == pytest.approx(wanted[name], rel=1e-4)


def test_a_batch_of_image_level_images_keeps_a_gradient_for_everything():
    """Of 0 where a loss is masked: no parameter is without, so that processes do not wait."""
    case = make_case([True, True], [0.05, 0.1])
    output, proposals, *_ = case
    masked = ("l1", "giou", "class", "semantic")
    criterion, losses = run(case, masked, federated=True)
    silent = [v for name, v in losses.items() if not name.endswith("_enc")]
    assert len(silent) == 14 and all(value == 0 and value.requires_grad for value in silent)
    assert all(value > 0 for name, value in losses.items() if name.endswith("_enc"))
    sum(losses.values()).backward()
    assert torch.equal(output.logits.grad, torch.zeros_like(output.logits))
    assert not output.extras["hidden"].grad.any() and proposals.logits.grad.any()
    assert all(
        p.grad is not None and not p.grad.any() for p in criterion.parameters() if p.requires_grad
    )


def test_what_is_told_of_an_image_goes_with_it():
    """Images 1 and 3 of four, whose matches lie in another order than the images."""
    lists = tuple(ListedCategories(torch.tensor([i]), torch.tensor([i, 9])) for i in range(4))
    images = torch.tensor([3, 0, 1, 3, 2])
    numbers = torch.arange(5)
    matched = Matched(
        images,
        query_ids=numbers,
        target_ids=numbers + 10,
        class_targets=torch.arange(4.0)[:, None, None].expand(-1, 6, SLOTS),
        boxes_cxcywh_norm=numbers[:, None].expand(-1, 4) / 10,
        normaliser=7.0,
        vocab_ids=numbers + 20,
        slot_vocab_ids=torch.arange(4)[:, None].expand(-1, SLOTS),
        region_embeddings=numbers[:, None] + 30.0,
        listed=lists,
        image_level=(True, False, True, False),
    )
    logits = torch.arange(4.0)[:, None, None].expand(-1, 6, SLOTS)
    extras = {"hidden": torch.arange(4.0)[:, None, None].expand(-1, 6, 2)}
    layer = LayerPredictions("_0", logits, logits[..., :1].expand(-1, -1, 4), extras)
    predictions, some = of_images(layer, matched, [1, 3])
    values = (predictions.logits, predictions.boxes_cxcywh_norm, predictions.extras["hidden"])
    for value in (*values, some.class_targets):
        assert value.shape[:2] == (2, 6) and value[:, 0, 0].tolist() == [1, 3]
    assert predictions.name == "_0" and some.normaliser == 7.0
    assert some.images.tolist() == [1, 0, 1] and some.query_ids.tolist() == [0, 2, 3]
    assert some.target_ids.tolist() == [10, 12, 13] and some.vocab_ids.tolist() == [20, 22, 23]
    assert some.region_embeddings[:, 0].tolist() == [30, 32, 33]
    assert some.boxes_cxcywh_norm[:, 0].tolist() == pytest.approx([0, 0.2, 0.3])
    assert some.slot_vocab_ids[:, 0].tolist() == [1, 3]
    assert some.listed == (lists[1], lists[3]) and some.image_level == (False, False)


def test_batches_without_image_level_images_are_as_ever():
    case = make_case([False, False, False], [0.05, 0.1, 0.02])
    for name, value in run(case, ())[1].items():
        if "semantic" not in name:  # whose projection is drawn anew
            assert torch.equal(run(case, ("l1", "class"))[1][name], value)


def test_a_name_that_no_loss_has_is_named():
    with pytest.raises(ValueError, match=r"names \['l2'\], the losses are .*'giou', 'l1'"):
        run(make_case([True], [0.1]), ("l2", "l1"))
