"""Bi-directional attention as the released code computes it: the yardstick for ours."""


def plain_fusion(module, image, categories, padding_mask, valid=None):
    """One stored matrix of similarities for both directions; it masks no empty slots."""
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
