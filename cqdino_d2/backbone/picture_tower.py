"""A small image tower for a teacher, trained on images and names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..files import read_tensor_file
from .small_resnet import SmallResNet


class PictureTower(nn.Module):
    """A `SmallResNet` whose cells' mean is projected to where names are: a teacher's tower.

    Args:
        dim: E, width of the text features of the names.
        stem_channels, channels, strides: see `SmallResNet`; its last map is what is pooled.
        grid: side of what is pooled of a region, in cells.

    Attributes:
        stride: of the map, in pixels.
        pixel_mean, pixel_std: of RGB values in 0..1.
    """

    pixel_mean = (0.485, 0.456, 0.406)
    pixel_std = (0.229, 0.224, 0.225)

    def __init__(
        self,
        *,
        dim: int,
        stem_channels: int = 24,
        channels: Sequence[int] = (48, 96, 192),
        strides: Sequence[int] = (2, 2, 1),
        grid: int = 4,
    ) -> None:
        super().__init__()
        self.settings = dict(
            dim=dim,
            stem_channels=stem_channels,
            channels=list(channels),
            strides=list(strides),
            grid=grid,
        )
        self.trunk = SmallResNet(
            stem_channels=stem_channels, channels=channels, strides=strides, num_outputs=1
        )
        ((self.name, shape),) = self.trunk.output_shape().items()
        self.projection = nn.Linear(shape.channels, dim)
        self.stride, self.grid = shape.stride, grid

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, D, H / stride, W / stride)."""
        return self.trunk(images)[self.name]

    def pool(self, regions: Tensor) -> Tensor:
        """(R, D, h, w) -> (R, E) embeddings, not normalised."""
        return self.projection(regions.mean(dim=(2, 3)))

    def content(self) -> dict[str, Any]:
        """What a file has to hold to make it again: see `trained_picture_tower`."""
        return {"settings": self.settings, "weights": self.state_dict()}


def trained_picture_tower(path: str | Path) -> PictureTower:
    """A tower from a file of its `PictureTower.content`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else.
    """
    content = read_tensor_file(path)
    try:
        tower = PictureTower(**content["settings"])
        tower.load_state_dict(content["weights"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} holds no image tower, but {', '.join(content)}") from error
    return tower
