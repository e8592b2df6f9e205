"""A small image tower that learns names from images of emoji alone: the study's teacher."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cqdino_d2.backbone import PictureTower, RegionTeacher, trained_picture_tower
from cqdino_d2.data import CategoryDatasetMapper
from cqdino_d2.files import write_atomically
from cqdino_d2.files.images import read_image
from cqdino_d2.layers import xyxy_to_cxcywh
from cqdino_d2.structures import ImageTargets

_SCALE = 100.0  # of the cosines, as the semantic loss has it


@dataclass(frozen=True)
class TowerTraining:
    """How the tower is trained: on equally many images of each emoji, however many there are.

    Attributes:
        steps: updates.
        batch_size: images per step.
        sides: of the images in pixels, drawn for each step: objects have many sizes.
        lr: of AdamW, falling to 0 like a cosine.
        seed: decides everything.
    """

    steps: int = 1000
    batch_size: int = 48
    sides: Sequence[int] = (24, 32, 40, 48, 64)
    lr: float = 2e-3
    seed: int = 0


def read_images(folders: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """(N, 3, side, side) uint8 images of the folders' files, and (N,) whose folder each is in."""
    pixels, labels = [], []
    for label, folder in enumerate(folders):
        for path in sorted(folder.glob("*.png")):
            pixels.append(read_image(path, "RGB"))
            labels.append(label)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), torch.tensor(labels)


def train_tower(
    images: Tensor, labels: Tensor, table: Tensor, training: TowerTraining
) -> PictureTower:
    """A tower whose embeddings of images are near the text features of their names.

    Cross-entropy over the cosines with all names, as CLIP's towers see those of a batch.

    Args:
        images: (N, 3, side, side) uint8.
        labels: (N,) int64, rows of the table.
        table: (V, E) text features.
        training: how.
    """
    torch.manual_seed(training.seed)
    generator = np.random.default_rng(training.seed)
    tower = PictureTower(dim=table.shape[1]).train()
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (tower.pixel_mean, tower.pixel_std))
    rows = F.normalize(table, dim=1)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=training.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.lr, training.steps)
    chances = 1.0 / np.bincount(labels)[labels]
    for _ in range(training.steps):
        drawn = generator.choice(len(labels), size=training.batch_size, p=chances / chances.sum())
        chosen = torch.from_numpy(drawn)
        side = int(generator.choice(training.sides))
        batch = F.interpolate(
            (images[chosen].float() / 255 - mean) / std,
            size=(side, side),
            mode="bilinear",
            antialias=True,
        )
        embeddings = F.normalize(tower.pool(tower(batch)), dim=1)
        loss = F.cross_entropy(_SCALE * embeddings @ rows.T, labels[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return tower.eval()


def make_teacher(
    path: Path, folders: Sequence[Path], table: Tensor, training: TowerTraining
) -> None:
    """Writes a tower's file, unless it is there.

    Args:
        path: of the file.
        folders: of the images of each row of the table; some may be missing.
        table: (V, E) text features.
        training: how the tower is trained.
    """
    if path.is_file():
        return
    print(f"training the teacher {path.name}", file=sys.stderr)
    tower = train_tower(*read_images(folders), table, training)
    write_atomically(path, lambda file: torch.save(tower.content(), file))


def named_right(
    path: Path, records: Iterable[Mapping[str, Any]], table: Tensor, frequencies: Sequence[str]
) -> dict[str, float]:
    """How many of the boxes of some images the teacher gives their right name, in percent.

    Args:
        path: of the tower's file.
        records: of the images, as Detectron2 has them.
        table: (V, E) text features.
        frequencies: of the V categories, 'r', 'c' or 'f'.

    Returns:
        By frequency, as far as there are boxes.
    """
    teacher = RegionTeacher(tower=lambda: trained_picture_tower(path))
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (teacher.pixel_mean, teacher.pixel_std)
    )
    mapper = CategoryDatasetMapper(augmentations=[])
    rows = F.normalize(table, dim=1)
    hits: dict[str, list[bool]] = {}
    for record in records:
        mapped = mapper(record)
        instances, image = mapped["instances"], mapped["image"]
        size = tuple(image.shape[1:])
        boxes = xyxy_to_cxcywh(instances.gt_boxes.tensor) / torch.tensor([*size[::-1]] * 2)
        target = ImageTargets(boxes, instances.gt_classes, size)
        (seen,) = teacher(((image - mean) / std)[None], [target])
        said = (F.normalize(seen.region_embeddings, dim=1) @ rows.T).argmax(dim=1)
        for one, truth in zip(said.tolist(), instances.gt_classes.tolist(), strict=True):
            hits.setdefault(frequencies[truth], []).append(one == truth)
    return {name: 100.0 * statistics.fmean(found) for name, found in hits.items()}
