"""Bi-directional attention between image tokens and class slots."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ..layers import batched_linear, dropout, merge_heads, split_heads
from ..structures import ClassSlots, ImageTokens

_FOLDING_OVERHEAD = 1.2  # folded products are of less handy shapes


class BiAttention(nn.Module):
    """Tokens and slots exchange features over one shared similarity (GLIP, Grounding DINO).

    The residuals are taken from the normalised inputs, as in the released code.

    Where there are many more tokens than slots, the projections of the image need not be made: with
    (x W)(l V)^T = x (W (l V)^T)^T they move over to the slots' side, which leaves three products of
    the tokens with K vectors per head. The result is the same; `folds` says when that is cheaper.

    Args:
        dim: C of both sides.
        attention_dim: A, width of the similarity over all heads.
        dropout: of the attention weights.
        drop_path: share of images that a training step adds nothing to.
        initial_scale: start of the per-channel weight of what is added.
    """

    def __init__(
        self,
        *,
        dim: int,
        attention_dim: int,
        num_heads: int = 4,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        initial_scale: float = 1e-4,
    ) -> None:
        super().__init__()
        self.drop_path = StochasticDepth(drop_path, "row")
        self.num_heads, self.dropout = num_heads, dropout
        self.image_norm = nn.LayerNorm(dim)
        self.category_norm = nn.LayerNorm(dim)
        self.image_query = nn.Linear(dim, attention_dim)
        self.category_query = nn.Linear(dim, attention_dim)
        self.image_value = nn.Linear(dim, attention_dim)
        self.category_value = nn.Linear(dim, attention_dim)
        self.image_output = nn.Linear(attention_dim, dim)
        self.category_output = nn.Linear(attention_dim, dim)
        self.image_scale = nn.Parameter(torch.full((dim,), initial_scale))
        self.category_scale = nn.Parameter(torch.full((dim,), initial_scale))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: ImageTokens, slots: ClassSlots) -> tuple[ImageTokens, ClassSlots]:
        """Both with features that have seen the other side."""
        image, classes = self.fuse(
            tokens.features, slots.features, tokens.padding_mask, slots.valid
        )
        return tokens.with_features(image), slots.with_features(classes)

    def fuse(
        self, image: Tensor, classes: Tensor, padding_mask: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same on tensors.

        Args:
            image: (B, T, C).
            classes: (B, K, C).
            padding_mask: (B, T) bool, True where a token is padding: no slot looks there.
            valid: (B, K) bool, False where a slot is empty: no token looks there.

        Returns:
            (B, T, C) and (B, K, C).
        """
        image, classes = self.image_norm(image), self.category_norm(classes)
        if self.folds(classes.shape[1]):
            similarity, updates = self._folded_similarity, self._folded_updates
            padded, token_dim = padding_mask[:, :, None, None], 1
        else:
            similarity, updates = self._similarity, self._updates
            padded, token_dim = padding_mask[:, None, :, None], 2
        logits = similarity(image, classes)
        to_image = logits.masked_fill(~valid[:, None, None], -torch.inf).softmax(dim=-1)
        to_classes = logits.masked_fill(padded, -torch.inf).softmax(dim=token_dim)
        for_image, for_classes = updates(
            self._drop(to_image), self._drop(to_classes), image, classes
        )
        for_image = self.drop_path(self.image_scale * for_image)
        return image + for_image, classes + self.drop_path(self.category_scale * for_classes)

    def folds(self, num_slots: int) -> bool:
        """Whether the projections of the image are folded into the slots.

        Multiplications per token: 3 heads K C folded, 3 A (C + K) else.
        """
        if isinstance(num_slots, torch.SymInt):  # of the traced example; a comparison would bind
            num_slots = num_slots.node.hint
        width, dim = self.image_query.weight.shape
        folded = self.num_heads * num_slots * dim
        return _FOLDING_OVERHEAD * folded < width * (dim + num_slots)

    def _drop(self, weights: Tensor) -> Tensor:
        return dropout(weights, self.dropout) if self.training else weights

    def _similarity(self, image: Tensor, classes: Tensor) -> Tensor:
        """(B, T, C), (B, K, C) -> (B, heads, T, K) logits of the attention in both directions."""
        queries = split_heads(self.image_query(image), self.num_heads)
        keys = split_heads(self.category_query(classes), self.num_heads)
        return queries @ (keys * keys.shape[-1] ** -0.5).transpose(-1, -2)

    def _updates(
        self, to_image: Tensor, to_classes: Tensor, image: Tensor, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, heads, T, K) weights of both directions -> (B, T, C), (B, K, C)."""
        values = split_heads(self.category_value(classes), self.num_heads)
        for_image = self.image_output(merge_heads(to_image @ values))
        values = split_heads(self.image_value(image), self.num_heads)
        return for_image, self.category_output(merge_heads(to_classes.transpose(-1, -2) @ values))

    def _folded_similarity(self, image: Tensor, classes: Tensor) -> Tensor:
        """`_similarity` without a projection of the image; (B, T, heads, K)."""
        similarity = batched_linear(image, *self.folded_keys(classes))
        return similarity.unflatten(-1, (self.num_heads, -1))

    def _folded_updates(
        self, to_image: Tensor, to_classes: Tensor, image: Tensor, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`_updates` without a projection of the image or to it, of (B, T, heads, K) weights."""
        for_image = batched_linear(to_image.flatten(2), *self.folded_values(classes))
        seen = batched_linear(to_classes.flatten(2).transpose(1, 2), image.transpose(1, 2))
        seen = seen.unflatten(1, (self.num_heads, -1))  # (B, heads, K, C)
        total = to_classes.sum(dim=1)[..., None]  # 1, apart from dropout
        return for_image, self.seen_by_classes(seen, total)

    def folded_keys(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, C) -> weight (B, heads K, C) and bias (B, heads K) from image to logits."""
        keys = split_heads(self.category_query(classes), self.num_heads)
        keys = keys * keys.shape[-1] ** -0.5
        query = self.image_query
        weight = query.weight.unflatten(0, (self.num_heads, -1))  # (heads, C_h, C)
        bias = query.bias.unflatten(0, (self.num_heads, -1, 1))
        return (keys @ weight).flatten(1, 2), (keys @ bias).flatten(1)

    def folded_values(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, C) -> weight (B, C, heads K) and bias (B, C) from attention to the image."""
        values = split_heads(self.category_value(classes), self.num_heads)
        output = self.image_output
        folded = values @ output.weight.T.unflatten(0, (self.num_heads, -1))  # (B, heads, K, C)
        return folded.flatten(1, 2).transpose(1, 2), output.bias.expand(len(folded), -1)

    def seen_by_classes(self, seen: Tensor, total: Tensor | float = 1.0) -> Tensor:
        """What the slots take over from the image.

        Args:
            seen: (B, heads, K, C), the image's tokens under the attention's weights.
            total: sum of these weights, (B, heads, K, 1).

        Returns:
            (B, K, C).
        """
        value = self.image_value
        values = seen @ value.weight.unflatten(0, (self.num_heads, -1)).transpose(1, 2)
        values = values + total * value.bias.unflatten(0, (self.num_heads, 1, -1))
        return self.category_output(merge_heads(values))
