import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, instantiate

from cqdino_d2.structures import random_vocabulary
from tests.tiny import ROOT, make_input, tiny_model


def tiny_tagger(num_categories=40):
    cfg = LazyConfig.load(str(ROOT / "configs/emojidet/tiny_stage1.py"))
    cfg.vocabulary = LazyCall(random_vocabulary)(num_categories=num_categories)
    torch.manual_seed(0)
    return instantiate(cfg.model)


def test_every_trained_parameter_gets_a_gradient():
    model = tiny_tagger().train()
    losses = model([make_input(), make_input(seed=1)])
    assert set(losses) == {"loss_category"}
    losses["loss_category"].backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        else:
            assert name.startswith("selection.output_projection.")


def test_lists_the_k_best_categories():
    model = tiny_tagger().eval()
    with torch.no_grad():
        outputs = model([make_input(), make_input(size=(48, 80), seed=1)])
    for output in outputs:
        tags = output["instances"]
        assert len(tags) == 8 and torch.equal(tags.pred_classes, output["selected_vocab_ids"])
        assert (tags.scores.diff() <= 0).all() and tags.scores[0] <= 1
    assert [output["instances"].image_size for output in outputs] == [(64, 64), (48, 80)]
    with torch.no_grad():
        small = tiny_tagger(num_categories=3).eval()([make_input()])
    assert sorted(small[0]["selected_vocab_ids"].tolist()) == [0, 1, 2]


def test_learns_what_is_in_two_pictures():
    model = tiny_tagger()
    batch = [make_input(classes=[5, 6]), make_input(classes=[17, 30], seed=1)]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    for _ in range(60):
        loss = model.train()(batch)["loss_category"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        outputs = model.eval()(batch)
    found = [set(output["selected_vocab_ids"][:2].tolist()) for output in outputs]
    assert found == [{5, 6}, {17, 30}]


def test_the_detector_takes_the_taggers_weights():
    tagger, detector = tiny_tagger(), tiny_model()
    state = tagger.state_dict()
    shapes = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    assert {name: tensor.shape for name, tensor in state.items()}.items() <= shapes.items()
    parts = ("backbone.", "categories.", "selection.")
    assert set(state) == {name for name in shapes if name.startswith(parts)}
    assert detector.load_state_dict(state, strict=False).unexpected_keys == []


@pytest.mark.parametrize("argument", ["autocast_dtype", "inference_dtype"])
def test_an_unknown_precision_is_refused(argument):
    cfg = LazyConfig.load(str(ROOT / "configs/emojidet/tiny_stage1.py"))
    cfg.vocabulary = LazyCall(random_vocabulary)(num_categories=4)
    cfg.model[argument] = "float8"
    with pytest.raises(ValueError, match=argument):
        instantiate(cfg.model)
