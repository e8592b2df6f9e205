"""A frozen model that tells what it sees in the boxes of a training batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from ..layers import cxcywh_to_xyxy
from ..structures import ImageTargets


class RegionTeacher(nn.Module):
    """CLIP on the detector's own batch, once per step (RichSem, arXiv 2310.12152).

    The tower's map of a whole image is cut out by RoIAlign at the true boxes and pooled by the
    tower's own pooling. Without gradient, in evaluation mode, in float32. The tower is made when
    a training first needs it and is no submodule: it is in no checkpoint, nothing trains it, and
    copies of the detector share it.

    Args:
        tower: makes it, e.g. `clip_resnet`: a module images -> map with ``pool``, ``stride``,
            ``grid``, ``pixel_mean`` and ``pixel_std``, as `ClipResNet` has them.
        pixel_mean, pixel_std: of RGB values in 0..255, by which the batch was normalised.
    """

    def __init__(
        self,
        *,
        tower: Callable[[], nn.Module],
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        self.make_tower = tower
        self.pixel_mean, self.pixel_std = list(pixel_mean), list(pixel_std)
        self._kept: list[nn.Module] = []  # in a list, so that it is no submodule

    def __deepcopy__(self, memo: dict[int, Any]) -> RegionTeacher:
        """A copy with the same tower."""
        other = RegionTeacher(
            tower=self.make_tower, pixel_mean=self.pixel_mean, pixel_std=self.pixel_std
        )
        other._kept = self._kept
        other.training = self.training
        return other

    def tower(self, device: torch.device) -> nn.Module:
        """The tower on a device; making it takes nothing from the global random generator."""
        if not self._kept:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # a made-up one is the same in all processes
                self._kept.append(self.make_tower().eval().requires_grad_(False))
        return self._kept[0].to(device)

    def embedding_dim(self) -> int:
        """E of its embeddings."""
        nothing = torch.zeros(0, dtype=torch.int64)
        side = 2 * self.tower(torch.device("cpu")).stride
        target = ImageTargets(torch.zeros(0, 4), nothing, (side, side))
        (found,) = self(torch.zeros(1, 3, side, side), [target])
        return found.region_embeddings.shape[1]

    @torch.no_grad()
    def forward(self, images: Tensor, targets: Sequence[ImageTargets]) -> list[ImageTargets]:
        """The targets with (N, E) embeddings of their boxes, not normalised.

        Args:
            images: (B, 3, H, W), normalised as the detector's and padded.
            targets: of each image.
        """
        tower = self.tower(images.device)
        counts = [len(target) for target in targets]
        with torch.autocast(images.device.type, enabled=False):
            regions = self.regions(tower, images.float(), targets)
            # an attention pool cannot take no region at all
            seen = tower.pool(regions if sum(counts) else regions.new_zeros(1, *regions.shape[1:]))
        parts = seen[: sum(counts)].split(counts)
        return [
            replace(target, region_embeddings=part)
            for target, part in zip(targets, parts, strict=True)
        ]

    def regions(self, tower: nn.Module, images: Tensor, targets: Sequence[ImageTargets]) -> Tensor:
        """(boxes of the batch, D, grid, grid): the tower's map at the boxes."""
        boxes = []
        for target in targets:
            height, width = target.image_size
            size = target.boxes_cxcywh_norm.new_tensor([width, height] * 2)
            boxes.append(cxcywh_to_xyxy(target.boxes_cxcywh_norm.float() * size))
        return roi_align(
            tower(self.renormalised(images, tower)),
            boxes,
            tower.grid,
            spatial_scale=1 / tower.stride,
            sampling_ratio=-1,  # as many points as pixels
            aligned=True,
        )

    def renormalised(self, images: Tensor, tower: nn.Module) -> Tensor:
        """(B, 3, H, W) from the detector's normalisation to the tower's."""
        old_mean, old_std, mean, std = (
            images.new_tensor(values).view(3, 1, 1)
            for values in (self.pixel_mean, self.pixel_std, tower.pixel_mean, tower.pixel_std)
        )
        return (images * (old_std / 255) + old_mean / 255 - mean) / std
