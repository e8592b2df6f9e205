"""What the decoder detaches and what it does not, and what the object queries may see."""

import pytest
import torch

from cqdino_d2.layers import inverse_sigmoid
from cqdino_d2.structures import DenoisingGroup
from cqdino_d2.transformer import CategoryContent, Denoising, QuerySelection
from tests.slots import make_proposals, make_targets
from tests.transformer.test_mixed_sizes import (
    DIM,
    make_decoder,
    proposals,
    slots,
    together_and_alone,
    with_effect,
)


def decode(decoder, denoising=None, given=None):
    together, _ = together_and_alone()
    return decoder(together, slots(), given or proposals(), denoising)


def gradients(output, module):
    """Of the sum of an output, with respect to a module's weights, None where it has none."""
    weights = list(module.parameters())
    return torch.autograd.grad(output.sum(), weights, retain_graph=True, allow_unused=True)


def test_the_boxes_of_the_proposals_get_no_gradient_from_the_decoder():
    given = proposals()
    boxes = given.boxes_cxcywh_norm.requires_grad_()
    content = given.content.requires_grad_()
    output = decode(make_decoder(), given=make_proposals(content, boxes, None))
    total = output.boxes_cxcywh_norm.sum() + output.logits.sum()
    for_content, for_boxes = torch.autograd.grad(total, [content, boxes], allow_unused=True)
    assert for_content.any() and for_boxes is None


def test_the_proposals_themselves_have_gradients():
    selection = with_effect(QuerySelection(dim=DIM, num_queries=9))
    together, _ = together_and_alone()
    found = selection(together, slots())
    assert all(x is not None and x.any() for x in gradients(found.logits, selection.projection))
    boxes = gradients(found.boxes_cxcywh_norm, selection.box_head)
    assert all(x is not None and x.any() for x in boxes)


def test_a_layers_boxes_train_their_own_head_and_the_one_before():
    """Look forward twice (arXiv 2203.03605, section 3.5): never a head that lies further back."""
    decoder = make_decoder(num_layers=4)
    boxes = decode(decoder).boxes_cxcywh_norm
    for layer in range(4):
        for head in range(4):
            # the queries pass through no box head, so this is the references' path alone
            found = gradients(boxes[layer], decoder.box_heads[head])
            reached = {x is not None and bool(x.any()) for x in found}
            assert reached == {head in (layer - 1, layer)}, (layer, head)


def test_the_gradient_through_the_box_before_by_hand():
    """With b = sigmoid(h + z), z the logit of the box before: db/dz = b (1 - b)."""
    decoder = make_decoder(num_layers=2)
    boxes = decode(decoder).boxes_cxcywh_norm
    [before] = torch.autograd.grad(boxes[1].sum(), decoder.box_heads[0][-1].bias)
    expected = (boxes[1] * (1 - boxes[1])).sum(dim=(0, 1))
    torch.testing.assert_close(before, expected, rtol=1e-3, atol=1e-4)


def test_the_boxes_themselves_against_a_plain_recursion():
    decoder, given, seen = make_decoder(num_layers=2), proposals(), []
    for head in decoder.box_heads:
        head.register_forward_hook(lambda _, __, out: seen.append(out))
    boxes = decode(decoder, given=given).boxes_cxcywh_norm
    of_normed, of_queries = seen[0::2], seen[1::2]
    reference = given.boxes_cxcywh_norm
    for layer in range(2):
        expected = (of_normed[layer] + inverse_sigmoid(reference)).sigmoid()
        torch.testing.assert_close(boxes[layer], expected)
        reference = (of_queries[layer] + inverse_sigmoid(reference, eps=1e-3)).sigmoid()


def denoising_group(num_queries, seed=0):
    torch.manual_seed(seed)
    stage = Denoising(
        content=CategoryContent(dim=DIM), num_object_queries=num_queries, num_queries=6
    )
    first = make_targets([[0.3, 0.4, 0.2, 0.5], [0.6, 0.5, 0.5, 0.2]], [2, 0])
    return stage([first, make_targets([[0.5, 0.7, 0.3, 0.1]], [4])], slots())


@torch.no_grad()
def test_object_queries_never_see_the_denoising_groups():
    decoder, given = make_decoder(), proposals(num_queries=6)
    alone = decode(decoder, given=given)
    for seed in (0, 1):
        group = denoising_group(6, seed)
        assert group.num_groups == 3
        _, objects = decode(decoder, group, given).split(group.content.shape[1])
        torch.testing.assert_close(objects.logits, alone.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            objects.boxes_cxcywh_norm, alone.boxes_cxcywh_norm, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("changed", [0, 1, 2])
@torch.no_grad()
def test_a_denoising_group_does_not_see_the_others(changed):
    decoder, group = make_decoder(), denoising_group(6)
    content, own = group.content.clone(), torch.arange(12) // 4 == changed
    content[:, own] += 1
    other = DenoisingGroup(
        content, group.boxes_cxcywh_norm, group.attention_mask, group.target_ids, 3
    )
    first, second = (decode(decoder, x).split(12)[0].logits for x in (group, other))
    torch.testing.assert_close(first[:, :, ~own], second[:, :, ~own], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(first[:, :, own], second[:, :, own], atol=1e-2)


def test_denoising_queries_carry_the_gradient_of_their_category():
    given = slots()
    features = given.features.requires_grad_()
    stage = Denoising(
        content=CategoryContent(dim=DIM), num_object_queries=6, num_queries=6, label_noise=0.0
    )
    targets = [make_targets([[0.3, 0.4, 0.2, 0.5]], [2]), make_targets([[0.5, 0.7, 0.3, 0.1]], [4])]
    stage(targets, given).content.sum().backward()
    copies = 12.0  # 6 groups of a positive and a negative
    expected = torch.zeros_like(features)
    expected[0, 2] = expected[1, 4] = copies
    assert torch.equal(features.grad, expected)
