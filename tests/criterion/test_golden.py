"""Matching and losses of a recorded training step, two images with different numbers of boxes."""

import math

import pytest
import torch

from cqdino_d2.structures import DenoisingGroup
from tests.golden_stages import GoldenStages


@pytest.fixture(scope="module")
def golden():
    return GoldenStages()


def recorded_group(golden):
    """The denoising group as far as the criterion looks at it: 3 groups of 2 x 6 queries."""
    target_ids = torch.full((2, 36), -1)
    for image, count in enumerate((6, 5)):
        for group in range(3):
            target_ids[image, 12 * group : 12 * group + count] = torch.arange(count)
    content, boxes = golden.tensor("dn/label_query"), golden.tensor("dn/bbox_reference")
    return DenoisingGroup(content, boxes, golden.tensor("dn/attn_mask"), target_ids, 3)


def released_constant(golden):
    """What the released category loss adds for every ancestor that it masks."""
    ancestors, masked = golden.fixture.about["tree"]["ancestors"], 0
    for target in golden.fixture.targets():
        present = set(target.vocab_ids.tolist())
        masked += len({a for c in present for a in ancestors[c]} - present)
    assert masked > 0
    return masked * -((1 - 0.55) ** 7) * math.log(0.55)


def test_every_loss_agrees(golden):
    losses = golden.stage("criterion")(
        golden.training_output(),
        golden.proposals(),
        golden.slots("eval/memory_text"),
        golden.fixture.targets(),
        recorded_group(golden),
    )
    names = {"class": "loss_cls", "l1": "loss_bbox", "giou": "loss_iou"}
    recorded = golden.fixture.about["losses"]
    expected = {"loss_category": recorded["language_loss"] - released_constant(golden)}
    for kind, name in names.items():
        for suffix, form in (
            ("", "{}"), ("_0", "d0.{}"), ("_enc", "enc_{}"),
            ("_dn", "dn_{}"), ("_dn_0", "d0.dn_{}"),
        ):  # fmt: skip
            expected[f"loss_{kind}{suffix}"] = recorded[form.format(name)]
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)


def test_the_matching_agrees(golden):
    _, output = golden.training_output().split(36)
    proposals = golden.proposals()
    layers = [("enc", proposals.logits, proposals.boxes_cxcywh_norm)]
    layers += [(f"d{i}", output.logits[i], output.boxes_cxcywh_norm[i]) for i in range(2)]
    matcher = golden.stage("criterion").matcher
    targets = golden.fixture.targets()
    classes = [golden.tensor(f"gt/positive_maps.{i}").float() for i in range(2)]
    for name, logits, boxes in layers:
        pairs = matcher(logits, boxes, classes, [t.boxes_cxcywh_norm for t in targets])
        for image, (query_ids, target_ids) in enumerate(pairs):
            recorded = golden.tensor(f"match/{name}.img{image}.gt_inds")
            found = torch.zeros_like(recorded)
            found[query_ids] = target_ids + 1
            assert torch.equal(found, recorded), (name, image)
