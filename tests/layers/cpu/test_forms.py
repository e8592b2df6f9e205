"""The forms of a finished model."""

import copy
import pickle

import pytest
import torch
from torch import nn

from cqdino_d2.layers import CrossAttention, FeedForward, accelerate_for_cpu
from cqdino_d2.layers.cpu import ChunkedFeedForward, CpuCrossAttention, Dropout, Linear
from cqdino_d2.layers.cpu.forms import FORMS
from tests.tiny import make_input, tiny_model


class Branch(nn.Linear):
    """Somebody's own layer."""


@pytest.fixture
def block():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "attention": CrossAttention(dim=8, context_dim=6, num_heads=2),
            "rows": FeedForward(dim=8, hidden_dim=12, dropout=0.1),
            "own": Branch(8, 8),
        }
    )


def test_modules_change_their_class_and_keep_their_weights(block):
    before, parameters = copy.deepcopy(block), dict(block.named_parameters())
    accelerate_for_cpu(block)
    assert type(block["attention"]) is CpuCrossAttention
    assert type(block["attention"].key) is Linear
    assert type(block["rows"]) is ChunkedFeedForward
    assert type(block["rows"].dropout) is Dropout
    assert type(block["own"]) is Branch
    after = dict(block.named_parameters())
    assert after.keys() == parameters.keys()
    assert all(after[name] is parameters[name] for name in after)
    x, context = torch.randn(2, 5, 8), torch.randn(2, 3, 6)
    for module in (block, before):
        module.eval()
    wanted = before["rows"](before["attention"](x, context))
    torch.testing.assert_close(block["rows"](block["attention"](x, context)), wanted)


def test_twice_is_once_and_copies_keep_their_forms(block):
    accelerate_for_cpu(block)
    classes = [type(module) for module in block.modules()]
    accelerate_for_cpu(block)
    for model in (block, copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert [type(module) for module in model.modules()] == classes


def test_a_form_is_a_subclass_without_a_start_of_its_own():
    for plain, form in FORMS.items():
        assert issubclass(form, plain) and "__init__" not in vars(form)


def test_a_detector_computes_as_its_plain_form():
    model = tiny_model().eval()
    plain = copy.deepcopy(model)
    back = {form: plain for plain, form in FORMS.items()}
    for module in plain.modules():
        module.__class__ = back.get(type(module), type(module))
    assert not any(type(module) in back for module in plain.modules())
    left = [type(module) for module in model.modules() if type(module) in FORMS]
    assert left == []
    images = [make_input(seed=n) for n in range(2)]
    with torch.no_grad():
        found, wanted = model(images), plain(images)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours["instances"].scores, theirs["instances"].scores)
