"""Bi-directional attention between image tokens and class slots."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ..layers import batched_linear, merge_heads, split_heads
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
        folded = self.folds(classes.shape[1])
        similarity = (self._folded_similarity if folded else self._similarity)(image, classes)
        to_image = similarity.masked_fill(~valid[:, None, None], -torch.inf).softmax(dim=-1)
        to_image = F.dropout(to_image, self.dropout, self.training)
        to_classes = similarity.masked_fill(padding_mask[..., None, None], -torch.inf)
        to_classes = F.dropout(to_classes.softmax(dim=1), self.dropout, self.training)
        updates = self._folded_updates if folded else self._updates
        for_image, for_classes = updates(to_image, to_classes, image, classes)
        for_image = self.drop_path(self.image_scale * for_image)
        return image + for_image, classes + self.drop_path(self.category_scale * for_classes)

    def folds(self, num_slots: int) -> bool:
        """Whether the projections of the image are folded into the slots.

        Multiplications per token: 3 heads K C folded, 3 A (C + K) else.
        """
        if isinstance(num_slots, torch.SymInt):
            num_slots = (
                num_slots.node.hint
            )  # of the traced example, without binding the graph to it
        width, dim = self.image_query.weight.shape
        folded = self.num_heads * num_slots * dim
        return _FOLDING_OVERHEAD * folded < width * (dim + num_slots)

    def _similarity(self, image: Tensor, classes: Tensor) -> Tensor:
        """(B, T, C), (B, K, C) -> (B, T, heads, K) logits of the attention in both directions."""
        queries = split_heads(self.image_query(image), self.num_heads)
        keys = split_heads(self.category_query(classes), self.num_heads)
        return (queries @ (keys * keys.shape[-1] ** -0.5).transpose(-1, -2)).transpose(1, 2)

    def _updates(
        self, to_image: Tensor, to_classes: Tensor, image: Tensor, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, T, heads, K) weights of both directions -> (B, T, C), (B, K, C)."""
        values = split_heads(self.category_value(classes), self.num_heads)
        for_image = self.image_output(merge_heads(to_image.transpose(1, 2) @ values))
        values = split_heads(self.image_value(image), self.num_heads)
        seen = to_classes.permute(0, 2, 3, 1) @ values
        return for_image, self.category_output(merge_heads(seen))

    def _folded_similarity(self, image: Tensor, classes: Tensor) -> Tensor:
        """`_similarity` without a projection of the image."""
        keys = split_heads(self.category_query(classes), self.num_heads)
        keys = keys * keys.shape[-1] ** -0.5
        query = self.image_query
        weight = query.weight.unflatten(0, (self.num_heads, -1))  # (heads, C_h, C)
        bias = query.bias.unflatten(0, (self.num_heads, -1, 1))
        folded, offset = keys @ weight, keys @ bias  # (B, heads, K, C), (B, heads, K, 1)
        similarity = batched_linear(image, folded.flatten(1, 2), offset.flatten(1))
        return similarity.unflatten(-1, (self.num_heads, -1))

    def _folded_updates(
        self, to_image: Tensor, to_classes: Tensor, image: Tensor, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`_updates` without a projection of the image or to it."""
        values = split_heads(self.category_value(classes), self.num_heads)
        output, value = self.image_output, self.image_value
        folded = values @ output.weight.T.unflatten(0, (self.num_heads, -1))  # (B, heads, K, C)
        folded = folded.flatten(1, 2).transpose(1, 2)
        bias = output.bias.expand(len(folded), -1)
        for_image = batched_linear(to_image.flatten(2), folded, bias)

        seen = batched_linear(to_classes.flatten(2).transpose(1, 2), image.transpose(1, 2))
        seen = seen.unflatten(1, (self.num_heads, -1))  # (B, heads, K, C)
        total = to_classes.sum(dim=1)[..., None]  # 1, apart from dropout
        values = seen @ value.weight.unflatten(0, (self.num_heads, -1)).transpose(1, 2)
        values = values + total * value.bias.unflatten(0, (self.num_heads, 1, -1))
        return for_image, self.category_output(merge_heads(values))
