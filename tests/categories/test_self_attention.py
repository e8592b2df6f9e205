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
