"""Prediction heads: similarity to the class slots, a fixed classifier, and boxes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import MLP, linear
from ..structures import ClassSlots, Vocabulary

MASKED_LOGIT = -1e4


class ContrastiveHead(nn.Module):
    """Logit of query q and slot t: q . t / sqrt(C) + bias (paper, section 3.4).

    Args:
        prior: the probability that every pair starts with; None: without a bias.
        scaled: whether the product is divided by sqrt(C); Grounding DINO's official one is not.
    """

    def __init__(self, *, prior: float | None = 0.01, scaled: bool = True) -> None:
        super().__init__()
        self.scaled = scaled
        start = None if prior is None else torch.tensor([-math.log((1 - prior) / prior)])
        self.bias = None if start is None else nn.Parameter(start)

    def forward(self, queries: Tensor, slots: ClassSlots) -> Tensor:
        """(B, Q, C) -> (B, Q, S); empty slots get a logit whose sigmoid is 0."""
        logits = queries @ slots.features.transpose(1, 2)
        if self.scaled:
            logits = logits * queries.shape[-1] ** -0.5
        if self.bias is not None:
            logits = logits + self.bias
        return logits.masked_fill(~slots.valid[:, None], MASKED_LOGIT)


class ClassificationHead(nn.Linear):
    """A fixed classifier: one weight vector and one bias for every category of the vocabulary.

    DINO's class head (arXiv 2203.03605), for detectors in which every image has all categories as
    slots (`AllCategories`). The slots' features are not looked at.

    Args:
        dim: width C of the queries.
        vocabulary: its size is V.
        prior: the probability that every category starts with.
    """

    def __init__(self, *, dim: int, vocabulary: Vocabulary, prior: float = 0.01) -> None:
        super().__init__(dim, len(vocabulary))
        nn.init.constant_(self.bias, -math.log((1 - prior) / prior))

    def forward(self, queries: Tensor, slots: ClassSlots) -> Tensor:
        """(B, Q, C) -> (B, Q, V); masked slots get a logit whose sigmoid is 0.

        Raises:
            ValueError: the slots are not all V categories.
        """
        num_slots = slots.num_slots
        if num_slots != self.out_features:
            raise ValueError(
                f"a classification head of {self.out_features} categories needs them all as slots "
                f"(AllCategories), got {num_slots} slots"
            )
        logits = linear(queries, self.weight, self.bias)
        return logits.masked_fill(~slots.valid[:, None], MASKED_LOGIT)


class TextTableHead(nn.Linear):
    """Logit of query q and slot t: the cosine of P q and t, times a fixed scale (RichSem).

    The slots' features are rows of a text table. P has no bias, and there is no class prior.

    Args:
        dim: width C of the queries.
        text_dim: width E of the table.
        scale: of the cosines; CLIP's is 100.
    """

    def __init__(self, *, dim: int, text_dim: int, scale: float = 100.0) -> None:
        super().__init__(dim, text_dim, bias=False)
        nn.init.normal_(self.weight, std=text_dim**-0.5)
        self.scale = scale

    def forward(self, queries: Tensor, slots: ClassSlots) -> Tensor:
        """(B, Q, C) -> (B, Q, S); masked slots get a logit whose sigmoid is 0.

        Raises:
            ValueError: slots of another width than E.
        """
        width = slots.features.shape[-1]
        if width != self.out_features:
            raise ValueError(
                f"a text table of {self.out_features} numbers per row is expected, got {width}"
            )
        embeddings = F.normalize(linear(queries, self.weight, None), dim=-1)
        logits = self.scale * embeddings @ F.normalize(slots.features, dim=-1).transpose(1, 2)
        return logits.masked_fill(~slots.valid[:, None], MASKED_LOGIT)


class HiddenState(nn.Module):
    """An extra head that hands on the queries themselves, for losses that project them.

    In inference it hands on nothing.
    """

    def forward(self, queries: Tensor) -> Tensor:
        """(B, Q, C) -> the same in training, else (B, Q, 0)."""
        return queries if self.training else queries[..., :0]


class BoxHead(MLP):
    """(..., C) -> (..., 4): what is added to a reference box before the sigmoid; starts at 0."""

    def __init__(self, *, dim: int) -> None:
        super().__init__(dim, dim, dim, 4)
        nn.init.zeros_(self[-1].weight)
        nn.init.zeros_(self[-1].bias)
