"""Invariants of the detector as a DINO with a fixed classifier."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage

from cqdino_d2.criterion import GradientBalance
from cqdino_d2.structures import ClassRequest
from tests.tiny import NUM_CATEGORIES, make_input, tiny_config, tiny_model


def test_every_parameter_gets_a_finite_gradient():
    model = tiny_model("baseline").train()
    losses = model([make_input(seed=0), make_input(size=(48, 80), boxes=[(1, 2, 30, 30)], seed=1)])
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    without_effect = [n for n, p in model.named_parameters() if not p.grad.any()]
    assert set(without_effect) <= {"denoising.content.not_selected"}
    heads = [model.query_selection.class_head, *model.decoder.class_heads]
    assert all(head.weight.grad.abs().sum(dim=1).all() for head in heads), "all V are trained"


def test_it_has_the_losses_of_a_dino():
    losses = tiny_model("baseline").train()([make_input()])
    kinds, layers = ["class", "l1", "giou"], ["", "_0", "_dn", "_dn_0", "_enc"]
    assert set(losses) == {f"loss_{kind}{layer}" for kind in kinds for layer in layers}


def test_images_without_boxes_train():
    model = tiny_model("baseline").train()
    total = sum(model([make_input(boxes=()), make_input(boxes=(), seed=1)]).values())
    total.backward()
    assert torch.isfinite(total)
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_permuting_the_categories_permutes_the_result():
    model = tiny_model("baseline").eval()
    permutation = torch.randperm(NUM_CATEGORIES, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model([make_input()])[0]["instances"]
        for head in [model.query_selection.class_head, *model.decoder.class_heads]:
            head.weight.copy_(head.weight[permutation].clone())
            head.bias.copy_(head.bias[permutation].clone())
        after = model([make_input()])[0]["instances"]
    place_of = torch.argsort(permutation)
    torch.testing.assert_close(after.scores, before.scores)
    assert torch.equal(after.pred_classes, place_of[before.pred_classes])
    torch.testing.assert_close(after.pred_boxes.tensor, before.pred_boxes.tensor)


def test_denoising_queries_carry_the_label_embedding():
    model = tiny_model("baseline").train()
    model.denoising.label_noise = 0.0
    item = make_input(classes=[3, 8])
    targets = model.prepare_targets([item])
    categories = model.selection(torch.zeros(1, 32, 2, 2), model.categories())
    group = model.denoising(targets, categories)
    expected = model.categories.embeddings[torch.tensor([3, 8])]
    torch.testing.assert_close(group.content[0, :2], expected)


def test_no_part_of_the_category_queries_is_left():
    names = [name for name, _ in tiny_model("baseline").named_parameters()]
    parts = ("selection.", "fusion", "category_attention", "relation", "projection_")
    assert not [name for name in names if name.startswith(parts) or "fusion" in name]
    assert [name for name in names if name.startswith("categories.")] == ["categories.embeddings"]


@pytest.mark.parametrize("relation", ["baseline", "tree"])
def test_the_balance_sees_the_last_layer_of_the_object_queries(relation):
    model = tiny_model(relation).train()
    seen = []
    balance = GradientBalance(period=1)
    balance.register_forward_hook(lambda m, given, out: seen.append(given))
    model.criterion.observers.append(balance)
    with EventStorage() as storage:
        model([make_input()])
        logged = storage.latest()
    assert [predictions.name for predictions, _ in seen].count("") == 1
    [(logits, targets)] = [(p.logits, m.class_targets) for p, m in seen if p.name == ""]
    assert logits.shape == (1, 20, NUM_CATEGORIES if relation == "baseline" else 8)
    if relation == "baseline":
        assert targets.sum() == 2  # both boxes have their category among all V
        assert logged["gradient/positive_to_negative"][0] > 0


def test_a_request_restricts_the_classes():
    model = tiny_model("baseline").eval()
    offered = torch.tensor([3, 17, 30])
    with torch.no_grad():
        usual = model([make_input()])[0]
        found = model([make_input()], ClassRequest(offered))[0]
    assert found["selected_vocab_ids"].tolist() == [3, 17, 30]
    assert set(found["instances"].pred_classes.tolist()) <= {3, 17, 30}
    assert len(usual["selected_vocab_ids"]) == NUM_CATEGORIES


def test_a_selection_in_front_of_it_is_refused():
    cfg = tiny_config("baseline")
    cfg.model.selection = tiny_config("tree").model.selection
    with pytest.raises(ValueError, match="AllCategories"):
        instantiate(cfg.model).eval()([make_input()])
