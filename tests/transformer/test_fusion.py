import torch

from cqdino_d2.transformer.fusion import BiAttention
from tests.transformer.plain_fusion import plain_fusion


def test_agrees_with_the_plain_formula():
    torch.manual_seed(0)
    module = BiAttention(dim=8, attention_dim=16, num_heads=2, initial_scale=0.5).eval()
    image, categories = torch.randn(2, 11, 8), torch.randn(2, 5, 8)
    padding = torch.zeros(2, 11, dtype=torch.bool)
    padding[1, 7:] = True
    valid = torch.ones(2, 5, dtype=torch.bool)
    result = module.fuse(image, categories, padding, valid)
    expected = plain_fusion(module, image, categories, padding)
    torch.testing.assert_close(result[0], expected[0])
    torch.testing.assert_close(result[1], expected[1])


def test_empty_slots_and_padding_have_no_influence():
    torch.manual_seed(0)
    module = BiAttention(dim=8, attention_dim=16, num_heads=2, initial_scale=0.5).eval()
    image, categories = torch.randn(1, 6, 8), torch.randn(1, 4, 8)
    padding = torch.tensor([[False] * 4 + [True] * 2])
    valid = torch.tensor([[True, True, True, False]])
    before = module.fuse(image, categories, padding, valid)
    image[:, 4:] += 3
    categories[:, 3] -= 2
    after = module.fuse(image, categories, padding, valid)
    torch.testing.assert_close(before[0][:, :4], after[0][:, :4])
    torch.testing.assert_close(before[1][:, :3], after[1][:, :3])
