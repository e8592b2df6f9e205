import pytest
import torch
import torch.nn.functional as F

from cqdino_d2.layers import CrossAttention, accelerate_for_cpu
from cqdino_d2.layers.cpu import attention as module
from cqdino_d2.layers.cpu import chunks

ONEDNN = torch.backends.mkldnn.is_available()


@pytest.mark.skipif(not ONEDNN, reason="torch was built without oneDNN")
@pytest.mark.parametrize("chunk", [1 << 22, 90 * 64])
def test_products_of_onednn_are_the_fused_kernel(monkeypatch, chunk):
    monkeypatch.setattr(chunks, "_CHUNK_ELEMENTS", chunk)
    torch.manual_seed(0)
    query = torch.randn(2, 500, 3, 64).transpose(1, 2)
    keys, values = torch.randn(2, 3, 90, 64), torch.randn(2, 3, 90, 64)
    expected = F.scaled_dot_product_attention(query, keys, values)
    layer = CrossAttention(dim=192, context_dim=8, num_heads=3, dropout=0.5).eval()
    accelerate_for_cpu(layer)
    fused = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: fused.append(1) or kernel(*args, **kwargs),
    )
    with torch.no_grad():
        torch.testing.assert_close(layer.look(query, keys, values), expected)
        assert not fused
    torch.testing.assert_close(layer.look(query, keys, values), expected)  # with gradients
    assert fused


@pytest.mark.parametrize(("rows", "by_image"), [(4, False), (400, True)])
def test_dropout_goes_by_image_where_that_is_faster(monkeypatch, rows, by_image):
    calls = []
    monkeypatch.setattr(module, "drop", lambda weights, share: calls.append(share) or weights)
    torch.manual_seed(0)
    query = torch.randn(2, 3, rows, 64)
    keys, values = torch.randn(2, 3, 90, 64), torch.randn(2, 3, 90, 64)
    layer = CrossAttention(dim=192, context_dim=8, num_heads=3, dropout=0.25)
    accelerate_for_cpu(layer)
    found = layer.look(query, keys, values)
    assert calls == ([0.25, 0.25] if by_image else [])
    expected = F.scaled_dot_product_attention(query, keys, values)
    assert torch.allclose(found, expected, atol=1e-5) is by_image  # torch's own has dropped
    layer.eval().look(query, keys, values)
    assert len(calls) == 2 * by_image
