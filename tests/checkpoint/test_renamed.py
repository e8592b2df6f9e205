"""Weights under earlier names."""

import torch

from cqdino_d2.checkpoint import with_present_names
from cqdino_d2.engine import AtomicCheckpointer
from tests.tiny import make_input, tiny_model


def earlier(state):
    """A state dict as it was written before class heads had that name."""
    return {
        name.replace("decoder.class_heads.", "decoder.contrastive_heads.").replace(
            "query_selection.class_head.", "query_selection.contrastive_head."
        ): value
        for name, value in state.items()
    }


def test_whoever_loads_them_gets_the_same_model():
    model, other = tiny_model(seed=0).eval(), tiny_model(seed=1).eval()
    before = earlier(model.state_dict())
    assert any("contrastive" in name for name in before)
    other.load_state_dict(before)
    with torch.no_grad():
        expected, found = (m([make_input()])[0]["instances"] for m in (model, other))
    assert torch.equal(expected.scores, found.scores)
    assert with_present_names(before).keys() == model.state_dict().keys()


def test_our_own_files_of_before_fit(tmp_path):
    model, other = tiny_model(seed=0), tiny_model(seed=1)
    path = tmp_path / "model.pth"
    torch.save({"model": earlier(model.state_dict())}, path)
    report = AtomicCheckpointer(other).load_weights(path, strict=True)
    assert report.complete
    assert all(
        torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items()
    )
