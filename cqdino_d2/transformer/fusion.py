"""Bi-directional attention between image tokens and selected categories."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Linear, batched_linear, merge_heads, split_heads


class BiAttention(nn.Module):
    """Image and categories exchange features over one shared similarity (GLIP, Grounding DINO).

    The residuals are taken from the normalised inputs, as in the released code.

    There are many more tokens than categories, so the projections of the image are not made: with
    (x W)(l V)^T = x (W (l V)^T)^T they move over to the categories' side, which leaves three
    products of the tokens with K vectors per head. The result is the same.

    Args:
        dim: C of both sides.
        attention_dim: width of the similarity over all heads.
        initial_scale: start of the per-channel weight of what is added.
    """

    def __init__(
        self,
        *,
        dim: int,
        attention_dim: int,
        num_heads: int = 4,
        dropout: float = 0.1,
        initial_scale: float = 1e-4,
    ) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.image_norm = nn.LayerNorm(dim)
        self.category_norm = nn.LayerNorm(dim)
        self.image_query = Linear(dim, attention_dim)
        self.category_query = Linear(dim, attention_dim)
        self.image_value = Linear(dim, attention_dim)
        self.category_value = Linear(dim, attention_dim)
        self.image_output = Linear(attention_dim, dim)
        self.category_output = Linear(attention_dim, dim)
        self.image_scale = nn.Parameter(torch.full((dim,), initial_scale))
        self.category_scale = nn.Parameter(torch.full((dim,), initial_scale))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, image: Tensor, categories: Tensor, padding_mask: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fuses both sides.

        Args:
            image: (B, T, C).
            categories: (B, K, C).
            padding_mask: (B, T) bool, True where a token is padding: no category looks there.
            valid: (B, K) bool, False where a slot is empty: no token looks there.

        Returns:
            (B, T, C) and (B, K, C).
        """
        image, categories = self.image_norm(image), self.category_norm(categories)
        similarity = self._similarity(image, categories)
        to_image = similarity.masked_fill(~valid[:, None, None], -torch.inf).softmax(dim=-1)
        to_image = F.dropout(to_image, self.dropout, self.training)
        to_categories = similarity.masked_fill(padding_mask[..., None, None], -torch.inf)
        to_categories = F.dropout(to_categories.softmax(dim=1), self.dropout, self.training)
        image_update = self._update_image(to_image, categories)
        category_update = self._update_categories(to_categories, image)
        image_update = image + self.image_scale * image_update
        return image_update, categories + self.category_scale * category_update

    def _similarity(self, image: Tensor, categories: Tensor) -> Tensor:
        """(B, T, C), (B, K, C) -> (B, T, heads, K) logits of the attention in both directions."""
        keys = split_heads(self.category_query(categories), self.num_heads)
        keys = keys * keys.shape[-1] ** -0.5
        query = self.image_query
        weight = query.weight.unflatten(0, (self.num_heads, -1))  # (heads, C_h, C)
        bias = query.bias.unflatten(0, (self.num_heads, -1, 1))
        folded, offset = keys @ weight, keys @ bias  # (B, heads, K, C), (B, heads, K, 1)
        similarity = batched_linear(image, folded.flatten(1, 2), offset.flatten(1))
        return similarity.unflatten(-1, (self.num_heads, -1))

    def _update_image(self, weights: Tensor, categories: Tensor) -> Tensor:
        """(B, T, heads, K) weights, (B, K, C) -> (B, T, C)."""
        values = split_heads(self.category_value(categories), self.num_heads)
        output = self.image_output
        folded = values @ output.weight.T.unflatten(0, (self.num_heads, -1))  # (B, heads, K, C)
        folded = folded.flatten(1, 2).transpose(1, 2)
        return batched_linear(weights.flatten(2), folded, output.bias.expand(len(folded), -1))

    def _update_categories(self, weights: Tensor, image: Tensor) -> Tensor:
        """(B, T, heads, K) weights, (B, T, C) -> (B, K, C)."""
        seen = batched_linear(weights.flatten(2).transpose(1, 2), image.transpose(1, 2))
        seen = seen.unflatten(1, (self.num_heads, -1))  # (B, heads, K, C)
        value = self.image_value
        total = weights.sum(dim=1)[..., None]  # 1, apart from dropout
        values = seen @ value.weight.unflatten(0, (self.num_heads, -1)).transpose(1, 2)
        values = values + total * value.bias.unflatten(0, (self.num_heads, 1, -1))
        return self.category_output(merge_heads(values))
