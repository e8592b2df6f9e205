"""The encoder: image tokens look at each other and, where they are to, at the class slots."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..structures import ClassSlots, ImageTokens


class Encoder(nn.Module):
    """Per layer: tokens and slots exchange features, slots see each other, tokens see each other.

    Every part is a factory, called once per layer; all but the last may be missing.

    Args:
        image_layer: makes, given ``num_levels``, (tokens, references (B, T, L, 2)) -> features
            (B, T, C) of the tokens.
        exchange: makes (tokens, slots) -> both, for example `BiAttention`.
        slot_layer: makes slots -> slots: attention among the slots.
        num_levels: L, of the tokens.
        num_layers: how many of each part.
        first_level: finer levels pass by the layers unchanged (0 in the paper: none does).
        merge: tokens -> tokens, after the layers: lets the levels exchange features.

    Raises:
        ValueError: a first level that leaves none to the layers.
    """

    def __init__(
        self,
        *,
        image_layer: Callable[..., nn.Module],
        num_levels: int,
        exchange: Callable[[], nn.Module] | None = None,
        slot_layer: Callable[[], nn.Module] | None = None,
        num_layers: int = 6,
        first_level: int = 0,
        merge: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= first_level < num_levels:
            raise ValueError(f"first_level must be in 0..{num_levels - 1}, got {first_level}")
        self.num_layers, self.first_level = num_layers, first_level
        self.image_layers = nn.ModuleList(
            image_layer(num_levels=num_levels - first_level) for _ in range(num_layers)
        )
        self.fusion_layers = nn.ModuleList(exchange() for _ in range(num_layers if exchange else 0))
        self.slot_layers = nn.ModuleList(
            slot_layer() for _ in range(num_layers if slot_layer else 0)
        )
        self.merge = merge

    def forward(self, tokens: ImageTokens, slots: ClassSlots) -> tuple[ImageTokens, ClassSlots]:
        """Both with new features of the same shapes."""
        fine, coarse = tokens.split_at_level(self.first_level)
        references = encoder_references(coarse)
        for layer in range(self.num_layers):
            if self.fusion_layers:
                coarse, slots = self.fusion_layers[layer](coarse, slots)
            if self.slot_layers:
                slots = self.slot_layers[layer](slots)
            coarse = coarse.with_features(self.image_layers[layer](coarse, references))
        tokens = tokens.with_features(torch.cat([fine, coarse.features], dim=1))
        return tokens if self.merge is None else self.merge(tokens), slots


def encoder_references(tokens: ImageTokens) -> Tensor:
    """(B, T, L, 2): each token's centre relative to the image, then to every level's padded map."""
    centres = tokens.grid_centres()
    own_ratio = tokens.valid_ratios[:, tokens.level_index()]
    relative_to_image = centres / own_ratio
    return torch.einsum("btx,blx->btlx", relative_to_image, tokens.valid_ratios)
