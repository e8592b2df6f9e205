import pytest
import torch
import torch.nn.functional as F

from cqdino_d2.layers.attention import attention
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
    fused = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: fused.append(1) or kernel(*args, **kwargs),
    )
    with torch.no_grad():
        torch.testing.assert_close(attention(query, keys, values), expected)
    assert not fused
    torch.testing.assert_close(attention(query, keys, values), expected)  # with gradients
    assert fused
