"""Dropout and attention with it."""

import pytest
import torch
from torch.nn import functional as F

from cqdino_d2.layers.cpu.attention import attention_with_dropout
from cqdino_d2.layers.cpu.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(100_001,), (3, 7, 4801)])
def test_the_share_is_dropped_and_the_mean_stays(p, shape):
    torch.manual_seed(0)
    x = torch.ones(shape, requires_grad=True)
    dropped = dropout(x, p)
    share = (dropped == 0).float().mean().item()
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    kept = dropped[dropped != 0]
    assert torch.equal(kept, kept[:1].expand_as(kept))
    assert kept[0].item() == pytest.approx(1 / (1 - p), rel=1e-4)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(400_000), 0.3) == 0).float()
    for distance in (1, 2, 3, 4, 5, 8):
        both = (dropped[distance:] * dropped[:-distance]).mean().item()
        assert both == pytest.approx(0.09, abs=0.003)


def test_the_generators_state_decides():
    x = torch.ones(1000)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = dropout(x, 0.4), dropout(x, 0.4)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x, 0.4), first) and not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_types_stay(dtype):
    assert dropout(torch.ones(9, dtype=dtype), 0.5).dtype == dtype


@pytest.mark.parametrize(("p", "expected"), [(0.0, 5.0), (1.0, 0.0), (1e-9, 5.0)])
def test_all_or_nothing(p, expected):
    assert dropout(torch.ones(5), p).sum() == expected
    assert dropout(torch.ones(0), 0.5).numel() == 0


def test_the_module_drops_in_training_alone():
    x, module = torch.ones(1000), Dropout(0.5)
    assert module(x).eq(0).any()
    assert module.eval()(x) is x


def test_attention_drops_weights():
    torch.manual_seed(0)
    query, keys = (torch.randn(2, 3, n, 8) for n in (5, 7))
    values = torch.eye(7, 8).expand(2, 3, 7, 8)  # shows the weights themselves
    weights = F.scaled_dot_product_attention(query, keys, values)
    dropped = attention_with_dropout(query, keys, values, dropout=0.5)
    kept = dropped[..., :7] != 0
    assert 0.3 < kept.float().mean() < 0.7
    torch.testing.assert_close(dropped[..., :7][kept], 2 * weights[..., :7][kept])
