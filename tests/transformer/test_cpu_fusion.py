"""The form for CPUs against the plain one."""

import pytest
import torch

from cqdino_d2.layers import accelerate_for_cpu
from cqdino_d2.transformer import cpu_fusion
from cqdino_d2.transformer.cpu_fusion import ChunkedBiAttention
from cqdino_d2.transformer.fusion import BiAttention


@pytest.fixture
def module():
    torch.manual_seed(0)
    made = BiAttention(dim=8, attention_dim=16, num_heads=2, initial_scale=0.5).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    accelerate_for_cpu(made)
    assert type(made) is ChunkedBiAttention and made.folds(5)
    return made


def both(module, image, classes, padding, valid):
    with torch.no_grad():
        plain = BiAttention.fuse(module, image, classes, padding, valid)
        return plain, module.fuse(image, classes, padding, valid)


@pytest.mark.parametrize("logits", [10, 70, 1 << 20])  # one token, seven, or all at a time
def test_the_pieces_change_nothing(module, monkeypatch, logits):
    monkeypatch.setattr(cpu_fusion, "_CHUNK_ELEMENTS", logits)
    image, classes = torch.randn(3, 23, 8) * 4, torch.randn(3, 5, 8) * 4
    padding = torch.zeros(3, 23, dtype=torch.bool)
    padding[1, 15:] = True
    padding[2, ::2] = True  # the first piece of one token is nothing but padding
    valid = torch.ones(3, 5, dtype=torch.bool)
    valid[0, 3:] = False
    expected, found = both(module, image, classes, padding, valid)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)


def test_large_logits_do_not_overflow(module, monkeypatch):
    monkeypatch.setattr(cpu_fusion, "_CHUNK_ELEMENTS", 40)
    with torch.no_grad():
        module.image_query.weight.mul_(300)  # e ** 300 is no number of float32
    image = torch.randn(1, 31, 8) * torch.linspace(0.1, 20, 31)[None, :, None]
    classes = torch.randn(1, 5, 8)
    everything = torch.zeros(1, 31, dtype=torch.bool), torch.ones(1, 5, dtype=torch.bool)
    expected, found = both(module, image, classes, *everything)
    assert torch.isfinite(found[1]).all()
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)


def test_gradients_and_wide_prompts_take_the_plain_way(module, monkeypatch):
    def never(*_):
        raise AssertionError("pieces")

    monkeypatch.setattr(ChunkedBiAttention, "_fuse_one", never)
    image, padding = torch.randn(1, 6, 8), torch.zeros(1, 6, dtype=torch.bool)
    module.fuse(image, torch.randn(1, 5, 8), padding, torch.ones(1, 5, dtype=torch.bool))
    with torch.no_grad():
        wide = torch.randn(1, 90, 8), padding, torch.ones(1, 90, dtype=torch.bool)
        assert not module.folds(90)
        module.fuse(image, *wide)
        with pytest.raises(AssertionError, match="pieces"):
            module.fuse(image, torch.randn(1, 5, 8), padding, torch.ones(1, 5, dtype=torch.bool))
