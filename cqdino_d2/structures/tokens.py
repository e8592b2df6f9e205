"""Image tokens: the feature maps of all levels as one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageTokens:
    """The tokens of a padded batch, level after level, row after row.

    Attributes:
        features: (B, T, C).
        position: (B, T, C) position encoding plus level embedding.
        padding_mask: (B, T) bool, True where a token lies in the padding.
        spatial_shapes: (L, 2) int64, height and width of each level.
        level_start_index: (L,) int64, index of each level's first token.
        valid_ratios: (B, L, 2) share of each level's width and height that is not padding, (w, h).
        level_sizes: height and width of each level, what ``spatial_shapes`` says too. Numbers need
            no look into a tensor, which would wait for a GPU and cannot be traced.
    """

    features: Tensor
    position: Tensor
    padding_mask: Tensor
    spatial_shapes: Tensor
    level_start_index: Tensor
    valid_ratios: Tensor
    level_sizes: tuple[tuple[int, int], ...]

    def with_features(self, features: Tensor) -> ImageTokens:
        """The same tokens with other features (B, T, C)."""
        return replace(self, features=features)

    def rows(self, places: Sequence[int]) -> ImageTokens:
        """The tokens of some of the B images, in that order."""
        names = ("features", "position", "padding_mask", "valid_ratios")
        return replace(self, **{name: getattr(self, name)[list(places)] for name in names})

    def split_at_level(self, level: int) -> tuple[Tensor, ImageTokens]:
        """The features (B, T', C) of the levels before ``level``, and the tokens from it on."""
        if level == 0:
            return self.features[:, :0], self
        start = sum(height * width for height, width in self.level_sizes[:level])
        coarse = ImageTokens(
            features=self.features[:, start:],
            position=self.position[:, start:],
            padding_mask=self.padding_mask[:, start:],
            spatial_shapes=self.spatial_shapes[level:],
            level_start_index=self.level_start_index[level:] - start,
            valid_ratios=self.valid_ratios[:, level:],
            level_sizes=self.level_sizes[level:],
        )
        return self.features[:, :start], coarse

    def level_maps(self, values: Tensor) -> list[Tensor]:
        """(B, T, ...) values of the tokens -> (B, H_l, W_l, ...) of every level."""
        areas = [height * width for height, width in self.level_sizes]
        parts = values.split(areas, dim=1)
        return [x.unflatten(1, size) for x, size in zip(parts, self.level_sizes, strict=True)]

    def grid_centres(self) -> Tensor:
        """Token centres (T, 2) in (x, y), each level's padded map being the unit square."""
        centres = []
        for height, width in self.level_sizes:
            y = (torch.arange(height, device=self.features.device) + 0.5) / height
            x = (torch.arange(width, device=self.features.device) + 0.5) / width
            grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
            centres.append(torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2))
        return torch.cat(centres)

    def level_index(self) -> Tensor:
        """(T,) int64, the level of each token."""
        device = self.features.device
        levels = [
            torch.full((height * width,), level, device=device)
            for level, (height, width) in enumerate(self.level_sizes)
        ]
        return torch.cat(levels)
