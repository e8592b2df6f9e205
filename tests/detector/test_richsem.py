"""RichSem's parts in the whole detector: gradients, inference, and what of CLIP stays outside."""

import copy

import pytest
import torch
from detectron2.config import LazyCall, instantiate

from cqdino_d2.backbone import RegionTeacher
from cqdino_d2.criterion import SemanticLoss
from cqdino_d2.data import random_category_embeddings
from cqdino_d2.export.exportable import ExportableDetector
from cqdino_d2.layers import factory, named
from cqdino_d2.structures import ClassRequest, random_vocabulary
from tests.tiny import NUM_CATEGORIES, make_input, tiny_config, tiny_model

WITHOUT_A_SET = ["model.criterion.losses.focal.image_counts=null"]


def richsem(seed=0, **kwargs):
    return tiny_model("richsem", seed, overrides=WITHOUT_A_SET, **kwargs)


def batch():
    other = make_input(size=(48, 80), boxes=[(1, 2, 30, 30)], classes=[30], seed=1)
    return [make_input(seed=0), other]


def test_lists_of_the_images_reach_the_federated_loss():
    """What is listed as absent raises the class losses, what is unfinished lowers them."""
    heed = "model.criterion.losses.focal.listed=true"
    model = tiny_model("richsem", 0, overrides=[*WITHOUT_A_SET, heed]).train()
    nothing, everything = torch.zeros(0, dtype=torch.int64), torch.arange(NUM_CATEGORIES)

    def class_losses(absent, unfinished):
        torch.manual_seed(0)
        lists = {"absent_vocab_ids": absent, "unfinished_vocab_ids": unfinished}
        losses = model([item | lists for item in batch()])
        return {n: float(x.detach()) for n, x in losses.items() if n.startswith("loss_class")}

    plain, more = class_losses(nothing, nothing), class_losses(everything, nothing)
    fewer = class_losses(everything, everything)
    assert len(plain) == 5
    for name, value in plain.items():
        assert fewer[name] < value < more[name], name
    with pytest.raises(ValueError, match="which the images do not carry"):
        model(batch())


def cqdino_with_the_branch():
    """The tiny CQ-DINO, to which only its config gives the parts."""
    cfg, parts = tiny_config("tree"), tiny_config("richsem", overrides=WITHOUT_A_SET)
    cfg.model.teacher = parts.model.teacher
    cfg.model.decoder.extra_heads = parts.model.decoder.extra_heads
    for name in ("focal", "semantic"):
        cfg.model.criterion.losses[name] = parts.model.criterion.losses[name]
    torch.manual_seed(0)
    return instantiate(cfg.model)


def test_every_trained_parameter_gets_a_finite_gradient():
    model = richsem().train()
    losses = model(batch())
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert not [name for name, gradient in gradients.items() if not gradient.any()]
    kinds, layers = ["class", "l1", "giou"], ["", "_0", "_dn", "_dn_0", "_enc"]
    expected = {f"loss_{kind}{layer}" for kind in kinds for layer in layers}
    assert set(losses) == expected | {"loss_semantic", "loss_semantic_dn"}
    assert "categories.embeddings" not in gradients, "the table stays as it is"


def test_images_without_boxes_train():
    model = richsem().train()
    losses = model([make_input(boxes=()), make_input(boxes=(), seed=1)])
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    dn = [value for name, value in losses.items() if "_dn" in name]
    assert len(dn) == 7 and not any(dn) and not losses["loss_semantic"]
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_the_teacher_learns_nothing_and_is_in_no_state():
    model = richsem().train()
    assert not [name for name in model.state_dict() if "teacher" in name]
    sum(model(batch()).values()).backward()
    tower = model.teacher.tower(torch.device("cpu"))
    assert not any(p.requires_grad or p.grad is not None for p in tower.parameters())
    assert not any(module.training for module in tower.modules())
    assert not [name for name in model.state_dict() if "teacher" in name]
    assert copy.deepcopy(model).teacher.tower(torch.device("cpu")) is tower


def test_inference_asks_no_teacher_and_hands_on_no_hidden_state(monkeypatch):
    model = richsem().eval()
    monkeypatch.setattr(RegionTeacher, "forward", None)
    monkeypatch.setattr(SemanticLoss, "forward", None)
    with torch.no_grad():
        found = model(batch())
        extras = model.run(model.preprocess(batch())).output.extras
    assert len(found[0]["instances"]) == len(found[1]["instances"]) > 0
    assert extras["hidden"].numel() == 0
    inputs = [{"image": item["image"]} for item in batch()]  # plain images, as one predicts
    with torch.no_grad():
        again = model(inputs)
    assert torch.equal(again[0]["instances"].scores, found[0]["instances"].scores)


def test_it_trains_without_denoising():
    model = richsem().train()
    model.denoising = None
    losses = model(batch())
    assert "loss_semantic" in losses and not [name for name in losses if "_dn" in name]


@pytest.mark.parametrize("make", [richsem, cqdino_with_the_branch])
def test_what_predicts_has_nothing_of_the_branch(make):
    model = make().train()
    model(batch())
    models = [model.compact(), ExportableDetector(model).model]
    for one in models:
        assert one.teacher is one.criterion is None
        assert not [n for n, _ in one.named_modules() if "semantic" in n or "visual" in n]
    left_out = model.training_weights()
    assert left_out == {"criterion.losses.semantic.projection.weight"}


def test_cqdino_takes_the_same_parts():
    model = cqdino_with_the_branch().train()
    losses = model(batch())
    assert losses["loss_semantic"] > 0 and losses["loss_semantic_dn"] > 0
    sum(losses.values()).backward()
    assert model.criterion.losses["semantic"].projection.weight.grad.any()
    deeper = model.decoder.layers[-1].feed_forward.expand.weight
    assert torch.isfinite(deeper.grad).all() and deeper.grad.any()


def test_permuting_the_categories_permutes_the_result():
    model = richsem().eval()
    permutation = torch.randperm(NUM_CATEGORIES, generator=torch.Generator().manual_seed(1))
    images = model.preprocess(batch())
    with torch.no_grad():
        before = model.run(images).output
        model.categories.embeddings.copy_(model.categories.embeddings[permutation].clone())
        after = model.run(images).output
    torch.testing.assert_close(after.logits, before.logits[..., permutation], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(after.boxes_cxcywh_norm, before.boxes_cxcywh_norm)


def test_a_request_restricts_the_classes():
    model = richsem().eval()
    with torch.no_grad():
        found = model([make_input()], ClassRequest(torch.tensor([3, 17])))[0]
    assert set(found["instances"].pred_classes.tolist()) <= {3, 17}


def test_a_teacher_of_another_dimension_is_named():
    cfg = tiny_config("richsem", overrides=[*WITHOUT_A_SET, "model.teacher.tower.dim=16"])
    with pytest.raises(ValueError, match=r"rows of 24 numbers, the teacher's embeddings have 16"):
        instantiate(cfg.model).train()(batch())


def test_a_table_of_another_vocabulary_is_named():
    cfg = tiny_config("richsem", overrides=WITHOUT_A_SET)
    cfg.model.criterion.losses.semantic.table = LazyCall(factory)(
        module=random_category_embeddings,
        vocabulary=LazyCall(random_vocabulary)(num_categories=7),
        dim=24,
    )
    with pytest.raises(ValueError, match=r"40 categories and 24 numbers is expected, got \(7, 24"):
        instantiate(cfg.model).train()(batch())


def test_missing_parts_are_named():
    for part, nothing in (("teacher", None), ("extra_heads", LazyCall(named)())):
        cfg = tiny_config("richsem", overrides=WITHOUT_A_SET)
        owner = cfg.model if part == "teacher" else cfg.model.decoder
        owner[part] = nothing
        with pytest.raises(ValueError, match=r"needs a teacher .* and the decoder's hidden"):
            instantiate(cfg.model).train()(batch())
