"""Class losses for long tails."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..structures import LayerPredictions, Vocabulary
from .losses import sigmoid_focal_loss
from .matched_losses import Matched


class FederatedFocalLoss(nn.Module):
    """Focal loss over the present categories and some absent ones, drawn at every call.

    The federated loss of CenterNet2 (arXiv 2103.07461, section 4.3), as RichSem has it: an image
    of LVIS is not searched for most categories, so that few of them count as absent, often seen
    ones more often. Every layer draws anew, every process for its own images together.

    The slots have to stand for a category each: not for the tokens of a prompt.

    With ``listed`` it uses LVIS' own lists as well, which RichSem's and CenterNet2's do not: in an
    image that was looked through for a category in vain, the category counts as absent whether it
    is drawn or not, and one of which not all objects have their boxes counts only where a query
    stands for a box.

    Args:
        image_counts: gives (V,) in how many images each category is; called once, in training.
            Categories without any are never drawn. None draws all V alike.
        vocabulary: its size is V.
        num_sampled: size of the set; more categories than that are all taken if present.
        power: categories are drawn in proportion to their count to this power.
        weight: factor on the loss.
        alpha, gamma: see `sigmoid_focal_loss`.
        listed: whether LVIS' lists are used; the mapper then has to carry them, as with
            `CategoryLists`.

    Raises:
        ValueError: no category in the set, or on use counts of another vocabulary or images
            without the lists.
    """

    def __init__(
        self,
        *,
        image_counts: Callable[[], Tensor] | None,
        vocabulary: Vocabulary,
        num_sampled: int = 50,
        power: float = 0.5,
        weight: float = 1.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        listed: bool = False,
    ) -> None:
        super().__init__()
        if num_sampled < 1:
            raise ValueError(f"num_sampled must be at least 1, got {num_sampled}")
        self.image_counts, self.num_categories = image_counts, len(vocabulary)
        self.num_sampled, self.power = num_sampled, power
        self.weight, self.alpha, self.gamma = weight, alpha, gamma
        self.listed = listed
        self._chances: Tensor | None = None

    def forward(self, predictions: LayerPredictions, matched: Matched) -> dict[str, Tensor]:
        """The sum over all queries and the slots of the counted categories, by the normaliser."""
        ids = matched.slot_vocab_ids
        counted = (ids >= 0) & torch.isin(ids, self.draw(matched.vocab_ids.unique()))
        if self.listed:
            absent, unfinished = self.listed_slots(matched)
            counted = counted | absent
        targets = matched.class_targets.transpose(1, 2)[counted]
        logits = predictions.logits.transpose(1, 2)[counted]
        loss = sigmoid_focal_loss(logits, targets, self.alpha, self.gamma)
        if self.listed:
            loss = loss.masked_fill(unfinished[counted][:, None] & (targets == 0), 0.0)
        return {"class": self.weight * loss.sum() / matched.normaliser}

    def listed_slots(self, matched: Matched) -> tuple[Tensor, Tensor]:
        """(B, S) bool each: the slots of absent categories, and of unfinished ones.

        Raises:
            ValueError: images without the lists.
        """
        if None in matched.listed or len(matched.listed) != len(matched.slot_vocab_ids):
            raise ValueError(
                "the federated loss needs LVIS' lists, which the images do not carry: "
                "dataloader.train.mapper.category_lists gives them"
            )
        absent, unfinished = (
            torch.stack(
                [
                    torch.isin(ids, getattr(one, name))
                    for ids, one in zip(matched.slot_vocab_ids, matched.listed, strict=True)
                ]
            )
            for name in ("absent", "unfinished")
        )
        return absent, unfinished

    def draw(self, present: Tensor) -> Tensor:
        """(P,) present categories -> these and drawn ones, each once, ``num_sampled`` if possible.

        With fewer categories that can be drawn, all of these are taken.
        """
        chances = self.chances(present.device).index_fill(0, present, 0.0)
        wanted = min(self.num_sampled - len(present), int(chances.count_nonzero()))
        if wanted <= 0:
            return present
        return torch.cat([present, torch.multinomial(chances, wanted)])

    def chances(self, device: torch.device) -> Tensor:
        """(V,) what categories are drawn in proportion to.

        Raises:
            ValueError: counts of another number of categories.
        """
        if self._chances is None or self._chances.device != device:
            if self.image_counts is None:
                counts = torch.ones(self.num_categories)
            else:
                counts = torch.as_tensor(self.image_counts()).float()
            if counts.shape != (self.num_categories,):
                raise ValueError(
                    f"image counts of {self.num_categories} categories are expected, got "
                    f"{tuple(counts.shape)}"
                )
            self._chances = counts.pow(self.power).mul(counts > 0).to(device)
        return self._chances
