import torch

from cqdino_d2.transformer.fusion import BiAttention


def plain_fusion(module, image, categories, padding_mask):
    """The formula of the released code, one matrix of similarities for both directions."""
    image, categories = module.image_norm(image), module.category_norm(categories)

    def heads(x):
        return x.unflatten(-1, (module.num_heads, -1)).transpose(1, 2)

    queries, keys = heads(module.image_query(image)), heads(module.category_query(categories))
    similarity = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    to_image = similarity.softmax(dim=-1) @ heads(module.category_value(categories))
    turned = similarity.transpose(-1, -2)
    turned = (turned - turned.amax(dim=-1, keepdim=True)).clamp(-50000, 50000)
    turned = turned.masked_fill(padding_mask[:, None, None], float("-inf")).softmax(dim=-1)
    to_categories = turned @ heads(module.image_value(image))
    image = image + module.image_scale * module.image_output(to_image.transpose(1, 2).flatten(2))
    added = module.category_output(to_categories.transpose(1, 2).flatten(2))
    return image, categories + module.category_scale * added


def test_agrees_with_the_plain_formula():
    torch.manual_seed(0)
    module = BiAttention(dim=8, attention_dim=16, num_heads=2, initial_scale=0.5).eval()
    image, categories = torch.randn(2, 11, 8), torch.randn(2, 5, 8)
    padding = torch.zeros(2, 11, dtype=torch.bool)
    padding[1, 7:] = True
    valid = torch.ones(2, 5, dtype=torch.bool)
    result = module(image, categories, padding, valid)
    expected = plain_fusion(module, image, categories, padding)
    torch.testing.assert_close(result[0], expected[0])
    torch.testing.assert_close(result[1], expected[1])


def test_empty_slots_and_padding_have_no_influence():
    torch.manual_seed(0)
    module = BiAttention(dim=8, attention_dim=16, num_heads=2, initial_scale=0.5).eval()
    image, categories = torch.randn(1, 6, 8), torch.randn(1, 4, 8)
    padding = torch.tensor([[False] * 4 + [True] * 2])
    valid = torch.tensor([[True, True, True, False]])
    before = module(image, categories, padding, valid)
    image[:, 4:] += 3
    categories[:, 3] -= 2
    after = module(image, categories, padding, valid)
    torch.testing.assert_close(before[0][:, :4], after[0][:, :4])
    torch.testing.assert_close(before[1][:, :3], after[1][:, :3])
