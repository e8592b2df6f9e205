"""Fusion of image and slots on a CPU, some image tokens at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..layers import form_of, linear
from .fusion import BiAttention

_CHUNK_ELEMENTS = 1 << 20  # logits of a piece, so that it stays in the caches


@form_of(BiAttention)
class ChunkedBiAttention(BiAttention):
    """`BiAttention` whose weights, T x heads x K of them, are never there all at once.

    In inference, where folding is cheaper. The slots' softmax over the tokens runs along: what was
    summed up is scaled down whenever a larger logit comes (arXiv 1805.02867).
    """

    def fuse(
        self, image: Tensor, classes: Tensor, padding_mask: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `BiAttention.fuse`."""
        plain = (
            torch.compiler.is_compiling()
            or self.training
            or torch.is_grad_enabled()
            or image.device.type != "cpu"
            or torch.is_autocast_enabled("cpu")
            or not self.folds(classes.shape[1])
        )
        if plain:
            return super().fuse(image, classes, padding_mask, valid)
        images = zip(image, classes, padding_mask, valid, strict=True)
        fused = [self._fuse_one(*one) for one in images]
        return tuple(map(torch.stack, zip(*fused, strict=True)))

    def _fuse_one(
        self, image: Tensor, classes: Tensor, padded: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(T, C), (K, C), (T,), (K,) -> (T, C), (K, C)."""
        classes = self.category_norm(classes)
        keys, offsets = self.folded_keys(classes[None])
        values, bias = self.folded_values(classes[None])
        keys, offsets, values, bias = keys[0], offsets[0], values[0], bias[0]
        unseen = None if valid.all() else ~valid
        any_padded = bool(padded.any())
        rows = max(1, _CHUNK_ELEMENTS // len(keys))
        fused = torch.empty_like(image)
        sums = _RunningSoftmax(len(keys), image)
        for start in range(0, len(image), rows):
            piece = slice(start, start + rows)
            x = self.image_norm(image[piece])
            logits = linear(x, keys, offsets)
            weights = logits.unflatten(-1, (self.num_heads, -1))
            if unseen is not None:
                weights = weights.masked_fill(unseen, -torch.inf)
            update = linear(weights.softmax(dim=-1).flatten(1), values, bias)
            torch.addcmul(x, self.image_scale, update, out=fused[piece])
            if any_padded:
                seen = ~padded[piece]
                x, logits = x[seen], logits[seen]
            sums.add(logits, x)
        seen = sums.mean().unflatten(0, (self.num_heads, -1))
        return fused, classes + self.category_scale * self.seen_by_classes(seen[None])[0]


class _RunningSoftmax:
    """The mean of rows under a softmax over all of them, which come piece by piece."""

    def __init__(self, size: int, like: Tensor) -> None:
        self.largest = like.new_full((size,), -torch.inf)
        self.total = like.new_zeros(size)
        self.sums = like.new_zeros(size, like.shape[-1])

    def add(self, logits: Tensor, rows: Tensor) -> None:
        """(n, S) logits, which are overwritten, and (n, C) rows."""
        if not len(rows):
            return
        largest = torch.maximum(self.largest, logits.amax(dim=0))
        shrink = (self.largest - largest).exp_()
        weights = logits.sub_(largest).exp_()
        self.total.mul_(shrink).add_(weights.sum(dim=0))
        self.sums.mul_(shrink[:, None]).add_(linear(weights.t(), rows.t()))
        self.largest = largest

    def mean(self) -> Tensor:
        """(S, C)."""
        return self.sums / self.total[:, None]
