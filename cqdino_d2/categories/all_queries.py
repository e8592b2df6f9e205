"""No selection: every query of an image's own prompt is a slot."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..structures import NO_CATEGORY, ClassQueries, ClassRequest, ClassSlots, ImageTargets


class AllQueries(nn.Module):
    """Takes the place of `ImageGuidedSelection` where the queries are an image's own.

    `AllCategories` does the same where all images have the same V.
    """

    num_selected = None
    is_deterministic = True

    def forward(
        self,
        image_map: Tensor,
        queries: ClassQueries,
        targets: Sequence[ImageTargets] | None = None,
        request: ClassRequest | None = None,
    ) -> ClassSlots:
        """All queries (B, S, C) as S slots per image; the rest is not looked at."""
        if len(queries.features) != len(image_map):
            raise ValueError(
                f"{len(image_map)} images need a prompt each, got {len(queries.features)} prompts"
            )
        nothing = torch.full(
            queries.features.shape[:2], NO_CATEGORY, device=queries.features.device
        )
        return ClassSlots(
            features=queries.features,
            vocab_ids=nothing,
            valid=queries.valid,
            position=queries.position,
            visible=queries.visible,
            phrases=queries.phrases,
        )
