import torch

from cqdino_d2.categories import CategorySelfAttention, LengthOneSelfAttention


def test_every_category_sees_the_others():
    module = CategorySelfAttention(dim=16, num_heads=2)
    queries = torch.randn(5, 16)
    changed = queries.clone()
    changed[3] += 1
    assert not torch.allclose(module(queries)[0], module(changed)[0])


def test_the_released_form_is_attention_over_a_sequence_of_one():
    module = LengthOneSelfAttention(dim=16, num_heads=2)
    queries = torch.randn(5, 16)
    sequence = queries[:, None]
    attended, _ = module.attention(sequence, sequence, sequence)
    torch.testing.assert_close(module(queries), module.norm(queries + attended[:, 0]))
