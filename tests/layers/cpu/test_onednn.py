"""The product through oneDNN against torch's own, values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from cqdino_d2.layers import batched_linear
from cqdino_d2.layers.cpu import Linear
from cqdino_d2.layers.cpu import onednn as module

ONEDNN = torch.backends.mkldnn.is_available()


@pytest.fixture
def counted(monkeypatch):
    """Counts the products that go to oneDNN."""
    calls = []
    product = module._product
    monkeypatch.setattr(module, "_product", lambda *a: calls.append(a) or product(*a))
    return calls


def gradients(function, *tensors):
    tensors = [t.clone().requires_grad_() for t in tensors]
    out = function(*tensors)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [out.detach(), *(t.grad for t in tensors)]


@pytest.mark.skipif(not ONEDNN, reason="torch was built without oneDNN")
@pytest.mark.parametrize("shape", [(600, 64), (3, 200, 64), (2, 10, 30, 64)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_torchs(shape, bias, counted):
    torch.manual_seed(0)
    layer, x = Linear(64, 80, bias=bias), torch.randn(shape)
    with torch.no_grad():
        found = layer(x)
    assert len(counted) == 1
    torch.testing.assert_close(found, F.linear(x, layer.weight, layer.bias))
    tensors = [x, layer.weight.detach(), *([layer.bias.detach()] if bias else [])]

    def ours(x, weight, bias=None):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x)

    for found, wanted in zip(
        gradients(ours, *tensors),
        gradients(F.linear, *(t.double() for t in tensors)),
        strict=True,
    ):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not ONEDNN, reason="torch was built without oneDNN")
def test_a_transposed_input_and_frozen_weights(counted):
    torch.manual_seed(0)
    layer, x = Linear(64, 80).requires_grad_(False), torch.randn(64, 700).t()
    x.requires_grad_()
    layer(x).sum().backward()
    assert len(counted) == 2  # no gradient of the weights
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(700, 64))


@pytest.mark.parametrize(
    ("rows", "kind"), [(4, "small"), (600, "float64"), (600, "autocast"), (600, "turned off")]
)
def test_torchs_own_is_taken_elsewhere(rows, kind, counted, monkeypatch):
    layer, x = Linear(64, 80), torch.randn(rows, 64)
    if kind == "float64":
        layer, x = layer.double(), x.double()
    if kind == "turned off":
        monkeypatch.setattr(module.torch.backends.mkldnn, "enabled", False)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "autocast"):
        found = layer(x)
    assert not counted
    assert found.dtype == (torch.bfloat16 if kind == "autocast" else x.dtype)


def test_the_result_may_be_changed_in_place():
    torch.manual_seed(0)
    layer, x = Linear(64, 80), torch.randn(2, 300, 64)
    found = gradients(lambda x: layer(x).relu_(), x)
    wanted = gradients(lambda x: F.linear(x, layer.weight, layer.bias).relu(), x)
    torch.testing.assert_close(found, wanted)


def test_checkpointing_and_compilation_go_through():
    torch.manual_seed(0)
    layer, x = Linear(64, 80), torch.randn(600, 64, requires_grad=True)
    checkpoint(layer, x, use_reentrant=False).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.detach().sum(0).expand_as(x))
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("width", [4, 64])  # too narrow for oneDNN, and not
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_per_image(width, batch, bias, counted):
    torch.manual_seed(0)
    x, weight = torch.randn(batch, 600, width), torch.randn(batch, 80, width)
    given = [x, weight, *([torch.randn(batch, 80)] if bias else [])]

    def plain(x, weight, bias=None):
        product = torch.einsum("bni,boi->bno", x, weight)
        return product if bias is None else product + bias[:, None]

    wanted = gradients(plain, *(t.double() for t in given))
    for found, expected in zip(gradients(batched_linear, *given), wanted, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    assert bool(counted) == (ONEDNN and width == 64)


def test_weights_with_strides_between_their_elements():
    torch.manual_seed(0)
    x, wide = torch.randn(600, 64), torch.randn(80, 3, 64)
    with torch.no_grad():
        torch.testing.assert_close(module.linear(x, wide[:, 1]), F.linear(x, wide[:, 1]))
