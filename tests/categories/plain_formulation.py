"""The category part in the released code's order of operations: the yardstick for ours.

Everything is done per image, the attention stores its (heads, V, S) weights, and one level of the
tree after the other writes a new (V, H) tensor.
"""

import math

import torch


def relate(categories, tree, batch):
    """(V, H) -> (B, V, H): the tree for every image, level by level."""
    queries = categories.projection(categories.embeddings).relu()
    images = [_aggregate(queries, tree) for _ in range(batch)]
    return categories.relation.norm(torch.stack(images))


def _aggregate(queries, tree):
    for step in range(tree.num_steps):
        parents = getattr(tree, f"parents_{step}")
        means = torch.zeros_like(queries).index_add(
            0,
            parents[getattr(tree, f"segments_{step}")],
            queries[getattr(tree, f"children_{step}")],
        )
        keep, take = torch.ones_like(queries[:, :1]), torch.zeros_like(queries[:, :1])
        keep[parents], take[parents] = getattr(tree, f"keep_{step}"), getattr(tree, f"take_{step}")
        queries = keep * queries + take * means
    return queries


def attend(attention, queries, image, dropout=0.0):
    """Unfused attention; (B, V, H), (B, S, image_dim) -> (B, V, H)."""
    heads = attention.num_heads

    def split(x):
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    q, k = split(attention.query(queries)), split(attention.key(image))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
    weights = torch.nn.functional.dropout(weights, dropout, dropout > 0)
    attended = weights @ split(attention.value(image))
    return attention.output(attended.transpose(1, 2).flatten(2))


def select(categories, selection, image_map):
    """The K best of all categories: logits (B, V), ids (B, K), features (B, K, C)."""
    related = relate(categories, categories.relation, len(image_map))
    return select_among(selection, related, image_map)


def select_among(selection, refined, image_map):
    """The same from (B, V, H) queries."""
    image = image_map.flatten(2).transpose(1, 2)
    image = selection.image_projection(torch.cat([image.mean(1, keepdim=True), image], dim=1))
    for layer in selection.layers:
        dropout = layer.attention.dropout if layer.training else 0.0
        attended = attend(layer.attention, refined, image, dropout)
        refined = layer.feed_forward(layer.norm(refined + layer.dropout(attended)))
    logits = selection.score(refined).squeeze(-1)
    ids = logits.topk(selection.num_selected, dim=1).indices
    chosen = refined.gather(1, ids[..., None].expand(-1, -1, refined.shape[-1]))
    return logits, ids, selection.output_projection(chosen)
