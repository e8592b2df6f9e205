"""The image-level loss of the category selection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..structures import CategoryScores, ImageTargets, Vocabulary, gather_rows


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

    def image_labels(
        self, targets: Sequence[ImageTargets], num_categories: int
    ) -> tuple[Tensor, Tensor]:
        """What each image shows, and what is known about it.

        Args:
            targets: of the B images.
            num_categories: V.

        Returns:
            (B, V) bool, the present categories; (B, V) bool, False for their ancestors that are
            not themselves present.
        """
        vocab_ids = torch.cat([target.vocab_ids for target in targets])
        counts = torch.tensor([len(target) for target in targets], device=vocab_ids.device)
        image = torch.arange(len(targets), device=vocab_ids.device).repeat_interleave(counts)
        present = vocab_ids.new_zeros(len(targets), num_categories, dtype=torch.bool)
        present[image, vocab_ids] = True
        counted = torch.ones_like(present)
        ancestors, box = gather_rows(self.offsets, self.ancestors, vocab_ids)
        counted[image[box], ancestors] = False
        return present, counted | present

    def forward(
        self, scores: CategoryScores | None, targets: Sequence[ImageTargets]
    ) -> dict[str, Tensor]:
        """``loss_category``, and ``loss_category_auxiliary`` where there are auxiliary scores.

        Raises:
            ValueError: the slots were not selected by score.
        """
        if scores is None:
            raise ValueError("a category loss needs a selection that scores the vocabulary")
        losses = {"loss_category": self.of_logits(scores.logits, targets)}
        if scores.auxiliary is not None:
            losses["loss_category_auxiliary"] = self.of_logits(scores.auxiliary, targets)
        return losses

    def of_logits(self, logits: Tensor, targets: Sequence[ImageTargets]) -> Tensor:
        """(B, V) logits -> scalar."""
        present, counted = self.image_labels(targets, logits.shape[1])
        total = (self.loss(logits.float(), present.to(logits.dtype)) * counted).sum()
        if self.images_per_process is not None:
            total = total * (self.images_per_process / len(targets))
        return self.weight * total
