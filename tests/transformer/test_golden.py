"""Every stage of the transformer against recorded numbers, two images of different sizes."""

from unittest import mock

import pytest
import torch

from cqdino_d2.structures import Proposals
from cqdino_d2.transformer import denoising
from tests.golden_stages import GoldenStages, assert_agrees, take


@pytest.fixture(scope="module")
def golden():
    return GoldenStages()


@pytest.fixture(scope="module")
def tokens(golden):
    with torch.no_grad():
        return golden.tokens(golden.stage("tokenizer"))


def recorded_proposals(golden, content):
    token_ids = golden.tensor("eval/topk_proposals")
    boxes = take(golden.tensor("eval/enc_coord_unact"), token_ids).sigmoid()
    logits = take(golden.tensor("eval/enc_class"), token_ids)
    return Proposals(content.expand(len(boxes), -1, -1), boxes, logits, token_ids)


def recorded_group(golden, targets, slots):
    """The denoising group with the random numbers that were drawn then."""
    replaced = golden.tensor("dn/rand_label_p")
    labels = torch.zeros_like(replaced)
    stage = golden.stage("denoising")
    size = stage.content.embedding.num_embeddings
    labels[replaced < 0.25] = (golden.tensor("dn/rand_new_labels").float() + 0.5) / size
    sign = golden.tensor("dn/rand_sign01").float() * 2 - 1
    noise = denoising.DenoisingNoise(replaced, labels, sign, golden.tensor("dn/rand_part"))
    local = torch.cat([golden.tensor(f"gt/local_labels.{i}") for i in range(len(targets))])
    with (
        mock.patch.object(denoising, "draw_noise", lambda *_: noise),
        mock.patch.object(stage.content, "labels", lambda *_: (local, size)),
    ):
        return stage, stage(targets, slots)


def test_the_batch_is_padded_on_both_axes_by_different_shares(golden):
    sizes = golden.fixture.image_sizes
    assert sizes == [(96, 128), (80, 112)]
    assert golden.tensor("eval/enc_in.mask")[1].any()


def test_tokenizer(golden, tokens):
    assert_agrees(tokens.position, golden.tensor("eval/enc_in.pos"))
    assert_agrees(tokens.valid_ratios, golden.tensor("eval/enc_in.valid_ratios"))
    assert torch.equal(tokens.padding_mask, golden.tensor("eval/enc_in.mask"))
    assert torch.equal(tokens.spatial_shapes, golden.tensor("eval/enc_in.spatial_shapes"))


@torch.no_grad()
def test_encoder(golden, tokens):
    encoded, slots = golden.stage("encoder")(tokens, golden.slots())
    assert_agrees(encoded.features, golden.tensor("eval/memory"))
    assert_agrees(slots.features, golden.tensor("eval/memory_text"))


@torch.no_grad()
def test_query_selection(golden, tokens):
    encoded = tokens.with_features(golden.tensor("eval/memory"))
    proposals = golden.stage("query_selection")(encoded, golden.slots("eval/memory_text"))
    token_ids = golden.tensor("eval/topk_proposals")
    assert torch.equal(proposals.token_ids, token_ids)
    recorded = take(golden.tensor("eval/enc_coord_unact"), token_ids)
    assert_agrees(proposals.boxes_cxcywh_norm, recorded.sigmoid())
    assert_agrees(proposals.logits, take(golden.tensor("eval/enc_class"), token_ids))


@torch.no_grad()
def test_decoder(golden, tokens):
    encoded = tokens.with_features(golden.tensor("eval/memory"))
    content = golden.stage("query_selection").content.weight
    output = golden.stage("decoder")(
        encoded, golden.slots("eval/memory_text"), recorded_proposals(golden, content)
    )
    assert_agrees(output.logits, golden.tensor("eval/dec_class"))
    assert_agrees(output.boxes_cxcywh_norm, golden.tensor("eval/dec_boxes"))


@torch.no_grad()
def test_denoising_group(golden):
    targets = golden.fixture.targets()
    _, group = recorded_group(golden, targets, golden.slots("eval/memory_text"))
    assert_agrees(group.content, golden.tensor("dn/label_query"))
    assert_agrees(group.boxes_cxcywh_norm, golden.tensor("dn/bbox_reference"))
    assert torch.equal(group.attention_mask, golden.tensor("dn/attn_mask"))


@torch.no_grad()
def test_decoder_with_the_denoising_group_in_front(golden, tokens):
    encoded = tokens.with_features(golden.tensor("eval/memory"))
    slots = golden.slots("eval/memory_text")
    _, group = recorded_group(golden, golden.fixture.targets(), slots)
    content = golden.stage("query_selection").content.weight
    output = golden.stage("decoder")(encoded, slots, recorded_proposals(golden, content), group)
    assert_agrees(output.logits, golden.tensor("train/dec_class"))
    assert_agrees(output.boxes_cxcywh_norm, golden.tensor("train/dec_boxes"))


def test_gradients_of_the_total_loss(golden):
    """From the neck's maps to the losses; what is detached where shows in the gradients."""
    names = ("tokenizer", "encoder", "query_selection", "decoder")
    stages = {name: golden.stage(name) for name in names}
    targets = golden.fixture.targets()
    encoded, slots = stages["encoder"](golden.tokens(stages["tokenizer"]), golden.slots())
    proposals = stages["query_selection"](encoded, slots)
    stages["denoising"], group = recorded_group(golden, targets, slots)
    output = stages["decoder"](encoded, slots, proposals, group)
    criterion = golden.stage("criterion")
    losses = criterion(output, proposals, slots, targets, group)
    sum(losses.values()).backward()
    recorded = golden.gradients()
    assert len(recorded) == 11
    for name, gradient in recorded.items():
        stage, parameter = name.split(".", 1)
        assert_agrees(stages[stage].get_parameter(parameter).grad, gradient)
