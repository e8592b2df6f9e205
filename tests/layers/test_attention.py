import torch
import torch.nn.functional as F

from cqdino_d2.layers import CrossAttention


def test_it_is_multi_head_attention_with_a_context_of_another_width():
    torch.manual_seed(0)
    layer = CrossAttention(dim=12, context_dim=10, num_heads=3).eval()
    x, context = torch.randn(2, 5, 12), torch.randn(2, 7, 10)
    query, key, value = layer.query(x), layer.key(context), layer.value(context)
    heads = []
    for start in (0, 4, 8):
        part = slice(start, start + 4)
        weights = (query[..., part] @ key[..., part].transpose(1, 2) / 2).softmax(dim=-1)
        heads.append(weights @ value[..., part])
    torch.testing.assert_close(layer(x, context), layer.output(torch.cat(heads, dim=-1)))


def test_dropout_is_for_training(monkeypatch):
    shares = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *args, dropout_p: shares.append(dropout_p) or kernel(*args),
    )
    layer = CrossAttention(dim=4, context_dim=4, num_heads=2, dropout=0.5)
    for mode in (True, False):
        layer.train(mode)(torch.ones(1, 2, 4), torch.ones(1, 3, 4))
    assert shares == [0.5, 0.0]
