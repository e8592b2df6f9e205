"""From feature maps to image tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import map_sine_encoding
from ..structures import ImageTokens


class ImageTokenizer(nn.Module):
    """Flattens all levels into one sequence, with positions, level embeddings and padding."""

    def __init__(self, *, dim: int, num_levels: int, temperature: float = 20.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.level_embedding = nn.Parameter(torch.randn(num_levels, dim))

    def forward(
        self,
        maps: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> ImageTokens:
        """Joins the levels.

        Args:
            maps: L maps (B, C, H_l, W_l).
            image_sizes: unpadded (height, width) of each image in pixels.
            padded_size: height and width of the padded batch in pixels.
        """
        device = maps[0].device
        pixel_padding = torch.ones(len(image_sizes), *padded_size, device=device)
        for row, (height, width) in zip(pixel_padding, image_sizes, strict=True):
            row[:height, :width] = 0
        features, positions, masks, ratios = [], [], [], []
        for level_map, embedding in zip(maps, self.level_embedding, strict=True):
            size = level_map.shape[-2:]
            mask = F.interpolate(pixel_padding[:, None], size=size)[:, 0].bool()
            encoding = map_sine_encoding(mask, level_map.shape[1] // 2, self.temperature)
            features.append(level_map.flatten(2).transpose(1, 2).float())
            positions.append(encoding.flatten(1, 2) + embedding)
            masks.append(mask.flatten(1))
            ratios.append(_valid_ratio(mask))
        sizes = tuple((level_map.shape[-2], level_map.shape[-1]) for level_map in maps)
        shapes = torch.tensor(sizes, device=device)
        areas = shapes.prod(dim=1)
        return ImageTokens(
            features=torch.cat(features, dim=1),
            position=torch.cat(positions, dim=1),
            padding_mask=torch.cat(masks, dim=1),
            spatial_shapes=shapes,
            level_start_index=areas.cumsum(0) - areas,
            valid_ratios=torch.stack(ratios, dim=1),
            level_sizes=sizes,
        )


def _valid_ratio(mask: Tensor) -> Tensor:
    """(B, H, W) padding -> (B, 2) share of width and height that is image."""
    width = (~mask[:, 0, :]).float().mean(dim=1)
    height = (~mask[:, :, 0]).float().mean(dim=1)
    return torch.stack([width, height], dim=-1)
