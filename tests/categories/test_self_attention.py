import torch

from cqdino_d2.categories import CategoryQueries, CategorySelfAttention, LengthOneSelfAttention
from cqdino_d2.checkpoint import convert_released_weights
from cqdino_d2.structures import random_vocabulary
from tests.golden_files import golden_tensors


def test_every_category_sees_the_others():
    module = CategorySelfAttention(dim=16, num_heads=2)
    queries = torch.randn(5, 16)
    changed = queries.clone()
    changed[3] += 1
    assert not torch.allclose(module(queries)[0], module(changed)[0])


def test_it_is_attention_by_heads_with_a_residual_and_a_norm():
    torch.manual_seed(0)
    module = CategorySelfAttention(dim=16, num_heads=2)
    queries, attention = torch.randn(5, 16), module.attention
    projected = queries @ attention.in_proj_weight.T + attention.in_proj_bias
    heads = []
    for head in range(2):
        query, key, value = (part[:, 8 * head : 8 * head + 8] for part in projected.split(16, 1))
        heads.append((query @ key.T / 8**0.5).softmax(dim=1) @ value)
    related = attention.out_proj(torch.cat(heads, dim=1))
    expected = torch.nn.functional.layer_norm(queries + related, (16,))
    torch.testing.assert_close(module(queries), expected)
    assert related.abs().max() > 0.1


def test_the_released_form_is_attention_over_a_sequence_of_one():
    module = LengthOneSelfAttention(dim=16, num_heads=2)
    queries = torch.randn(5, 16)
    sequence = queries[:, None]
    attended, _ = module.attention(sequence, sequence, sequence)
    torch.testing.assert_close(module(queries), module.norm(queries + attended[:, 0]))


def test_the_released_form_agrees_with_the_recorded_numbers():
    weights = convert_released_weights(golden_tensors("coco_relation", "sd/")).weights
    recorded = golden_tensors("coco_relation", "eval/")
    vocabulary, dim = random_vocabulary(40), recorded["label_relu"].shape[1]
    categories = CategoryQueries(
        vocabulary=vocabulary, dim=dim, relation=LengthOneSelfAttention(dim=dim)
    )
    state = {name.removeprefix("categories."): tensor for name, tensor in weights.items()}
    categories.load_state_dict(state)
    with torch.no_grad():
        related = categories().features
    torch.testing.assert_close(related, recorded["after_label_attn"], rtol=1e-4, atol=1e-5)
