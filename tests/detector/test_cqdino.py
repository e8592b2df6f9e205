"""Invariants of the whole detector, for both relations."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling import META_ARCH_REGISTRY

from tests.tiny import NUM_CATEGORIES, make_input, tiny_config, tiny_model

RELATIONS = ["tree", "sa"]


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_trainable_parameter_gets_a_finite_gradient(relation):
    model = tiny_model(relation, overrides=["model.selection.force_targets=true"]).train()
    losses = model([make_input(seed=0), make_input(size=(48, 80), boxes=[(1, 2, 30, 30)], seed=1)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    without_effect = [n for n, p in model.named_parameters() if not p.grad.any()]
    assert set(without_effect) <= {"denoising.content.not_selected"}


def test_losses_are_named_by_layer_and_kind():
    losses = tiny_model().train()([make_input()])
    kinds = ["class", "l1", "giou"]
    layers = ["", "_0", "_dn", "_dn_0", "_enc"]
    expected = {f"loss_{kind}{layer}" for kind in kinds for layer in layers}
    assert set(losses) == expected | {"loss_category"}


@pytest.mark.parametrize("relation", RELATIONS)
def test_images_without_boxes_train(relation):
    model = tiny_model(relation).train()
    losses = model([make_input(boxes=()), make_input(boxes=(), seed=1)])
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing, "DDP would wait for these for ever"
    assert losses["loss_l1"] == 0


def test_one_image_without_boxes_among_others():
    losses = tiny_model().train()([make_input(boxes=()), make_input(seed=1)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_l1"] > 0


@pytest.mark.parametrize("relation", RELATIONS)
def test_evaluation_is_deterministic_and_independent_of_the_batch(relation):
    model = tiny_model(relation).eval()
    first, second = make_input(seed=0), make_input(seed=1)
    with torch.no_grad():
        together = model([first, second])
        alone = model([second])
        again = model([first, second])
    assert torch.equal(together[0]["instances"].scores, again[0]["instances"].scores)
    assert torch.equal(together[1]["selected_vocab_ids"], alone[0]["selected_vocab_ids"])
    a, b = together[1]["instances"], alone[0]["instances"]
    torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=1e-4, atol=1e-3)


def test_permuting_the_categories_permutes_the_result():
    model = tiny_model("sa").eval()
    inputs = [make_input()]
    permutation = torch.randperm(NUM_CATEGORIES, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model(inputs)[0]
        embeddings = model.categories.embeddings
        embeddings.copy_(embeddings[permutation].clone())
        after = model(inputs)[0]
    place_of = torch.argsort(permutation)
    assert torch.equal(after["selected_vocab_ids"], place_of[before["selected_vocab_ids"]])
    torch.testing.assert_close(after["instances"].scores, before["instances"].scores)
    assert torch.equal(after["instances"].pred_classes, place_of[before["instances"].pred_classes])


def test_output_is_in_the_wanted_size_and_inside_it():
    model = tiny_model().eval()
    item = make_input() | {"height": 128, "width": 192}
    with torch.no_grad():
        result = model([item])[0]
    instances = result["instances"]
    assert instances.image_size == (128, 192)
    boxes = instances.pred_boxes.tensor
    assert (boxes >= 0).all() and (boxes[:, 0::2] <= 192).all() and (boxes[:, 1::2] <= 128).all()
    assert (instances.scores[:-1] >= instances.scores[1:]).all()
    assert len(instances) == 20 * 8  # all query-category pairs, fewer than 300
    assert set(instances.pred_classes.tolist()) <= set(result["selected_vocab_ids"].tolist())


def test_a_vocabulary_smaller_than_k_is_masked():
    model = tiny_model(num_categories=5)
    with torch.no_grad():
        result = model.eval()([make_input(classes=[0, 1])])[0]
    assert sorted(result["selected_vocab_ids"].tolist()) == [0, 1, 2, 3, 4]
    assert result["instances"].pred_classes.max() < 5
    losses = model.train()([make_input(classes=[0, 1])])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_detectron2_builds_it_by_name():
    assert META_ARCH_REGISTRY.get("CQDINO") is type(tiny_model())


def test_autocast_covers_backbone_and_neck_only():
    model = tiny_model(overrides=["model.autocast_dtype=bfloat16"]).eval()
    seen = {}
    model.neck.register_forward_hook(lambda m, i, out: seen.update(neck=out[0].dtype))
    model.encoder.register_forward_hook(lambda m, i, out: seen.update(enc=out[0].features.dtype))
    with torch.no_grad():
        model([make_input()])
    assert seen == {"neck": torch.bfloat16, "enc": torch.float32}


def test_denoising_can_be_left_out():
    cfg = tiny_config()
    cfg.model.denoising = None
    losses = instantiate(cfg.model).train()([make_input()])
    assert not [name for name in losses if "_dn" in name]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_inference_runs_wholly_in_another_type(dtype):
    exact = tiny_model().eval()
    model = tiny_model(overrides=[f"model.inference_dtype={dtype}"]).eval()
    seen = {}
    model.encoder.image_layers[0].feed_forward.expand.register_forward_hook(
        lambda _, __, out: seen.update({model.training: out.dtype})
    )
    batch = [make_input()]
    with torch.no_grad():
        expected, found = exact(batch)[0], model(batch)[0]
    for name in ("scores", "pred_boxes"):
        first, second = (getattr(result["instances"], name) for result in (expected, found))
        first, second = (getattr(x, "tensor", x) for x in (first, second))
        assert second.dtype == torch.float32 and 0 < (first - second).abs().max()
    torch.testing.assert_close(
        found["instances"].scores, expected["instances"].scores, atol=0.05, rtol=0
    )
    chosen = [set(result["selected_vocab_ids"].tolist()) for result in (expected, found)]
    assert len(chosen[0] & chosen[1]) >= 7  # of 8
    assert model.categories().features.dtype == torch.float32  # in half precision inside alone
    losses = {name: loss.item() for name, loss in model.train()(batch).items()}
    assert all(loss == loss for loss in losses.values())
    assert seen == {False: getattr(torch, dtype), True: torch.float32}


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 3)])
def test_an_image_with_fewer_tokens_than_queries_is_no_exception(size):
    model = tiny_model().eval()
    with torch.no_grad():
        [found] = model([make_input(size=size, boxes=())])
    assert torch.isfinite(found["instances"].scores).all()
    height, width = size
    box = (0.0, 0.0, width * 0.75, height * 0.75)
    losses = model.train()([make_input(size=size, boxes=(box,)), make_input(size=(1, 1), boxes=())])
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
