"""The image-level loss of the category selection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..structures import ImageTargets, Vocabulary


class CategoryLoss(nn.Module):
    """Multi-label loss on the V category logits of every image.

    Present categories are positive. Their ancestors that are not themselves present are neither
    right nor wrong ('dog' where only 'poodle' is annotated) and left out. (The released code
    multiplies logit and target by 0 there instead: no gradient either, but a constant in the
    value.)

    Args:
        vocabulary: gives V and the ancestors.
        loss: (logits, targets) -> element-wise loss, e.g. `AsymmetricLoss`.
        weight: factor on the loss.
        images_per_process: the loss is the mean over images times this number, so that it does
            not depend on how a batch is spread over processes. The released recipe sums over the
            2 images of each of its processes. None sums over the batch at hand.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        loss: Callable[[Tensor, Tensor], Tensor],
        weight: float = 1.0,
        images_per_process: int | None = None,
    ) -> None:
        super().__init__()
        self.loss, self.weight, self.images_per_process = loss, weight, images_per_process
        ancestors = vocabulary.hierarchy.category_ancestors
        self.register_buffer("offsets", torch.from_numpy(ancestors.offsets), persistent=False)
        self.register_buffer("ancestors", torch.from_numpy(ancestors.indices), persistent=False)

    def ancestors_of(self, vocab_ids: Tensor) -> Tensor:
        """(N,) -> (M,) all ancestors of the given categories, possibly repeated."""
        start, end = self.offsets[vocab_ids], self.offsets[vocab_ids + 1]
        count = end - start
        first = torch.repeat_interleave(start - (count.cumsum(0) - count), count)
        return self.ancestors[first + torch.arange(len(first), device=first.device)]

    def forward(self, logits: Tensor, targets: Sequence[ImageTargets]) -> Tensor:
        """(B, V) logits -> scalar."""
        present = torch.zeros_like(logits)
        counted = torch.ones_like(logits)
        for row, mask, target in zip(present, counted, targets, strict=True):
            mask[self.ancestors_of(target.vocab_ids)] = 0
            mask[target.vocab_ids] = 1
            row[target.vocab_ids] = 1
        total = (self.loss(logits.float(), present) * counted).sum()
        if self.images_per_process is not None:
            total = total * (self.images_per_process / len(targets))
        return self.weight * total
