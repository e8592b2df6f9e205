"""Bi-directional attention between image tokens and selected categories."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Linear, merge_heads, split_heads


class BiAttention(nn.Module):
    """Image and categories exchange features over one shared similarity (GLIP, Grounding DINO).

    The residuals are taken from the normalised inputs, as in the released code.

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
        image_query = split_heads(self.image_query(image), self.num_heads)
        category_query = split_heads(self.category_query(categories), self.num_heads)
        dropout = self.dropout if self.training else 0.0
        to_image = F.scaled_dot_product_attention(
            image_query,
            category_query,
            split_heads(self.category_value(categories), self.num_heads),
            attn_mask=valid[:, None, None, :],
            dropout_p=dropout,
        )
        to_categories = F.scaled_dot_product_attention(
            category_query,
            image_query,
            split_heads(self.image_value(image), self.num_heads),
            attn_mask=~padding_mask[:, None, None, :],
            dropout_p=dropout,
        )
        image = image + self.image_scale * self.image_output(merge_heads(to_image))
        categories = categories + self.category_scale * self.category_output(
            merge_heads(to_categories)
        )
        return image, categories
