"""Batches of images with a label among batches of images with boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from ..samplers import StreamBatchSampler
from ..streams import Mapper, StreamDataset

_IMAGE_LEVEL = 1  # what tells the seed of these from that of the images with boxes


@dataclass(frozen=True)
class ImageLevelBatches:
    """Which image-level images a training sees, and how often.

    Attributes:
        dataset: records of images with a label (`get_image_level_records`).
        mapper: makes the detector's input of a record, or of four that share an image.
        total_batch_size: images per step over all processes.
        ratio: batches of images with boxes, then batches of these, in turn; each at least 1.
        sampler, repeat_threshold: see `build_train_loader`; RichSem's is 'uniform'.
        mosaic: share of the samples that are made of four records.
        replace_unreadable: see `StreamDataset`; these images come from the web.

    Raises:
        ValueError: another ratio.
    """

    dataset: Sequence[Any] | Dataset
    mapper: Mapper
    total_batch_size: int
    ratio: Sequence[int] = (1, 1)
    sampler: str = "uniform"
    repeat_threshold: float = 0.001
    mosaic: float = 1.0
    replace_unreadable: bool = True

    def __post_init__(self) -> None:
        if len(self.ratio) != 2 or any(type(one) is not int or one < 1 for one in self.ratio):
            raise ValueError(
                "ratio is how many batches of images with boxes and of image-level images take "
                f"turns, two whole numbers of at least 1, got {list(self.ratio)}"
            )

    @property
    def turns(self) -> Turns:
        """Whose turn it is at each step."""
        return Turns(*self.ratio)

    def seed(self, seed: int) -> int:
        """The seed of their stream in a training with this seed."""
        return int(np.random.SeedSequence([seed, _IMAGE_LEVEL]).generate_state(1)[0])


@dataclass(frozen=True)
class Turns:
    """Box batches and image-level batches that take turns.

    Attributes:
        boxes: batches in a row of images with boxes; they begin.
        image_level: batches in a row of image-level images.
    """

    boxes: int
    image_level: int

    def is_image_level(self, step: int) -> bool:
        """Whether a step's batch is of image-level images."""
        return step % (self.boxes + self.image_level) >= self.boxes

    def before(self, step: int) -> tuple[int, int]:
        """How many batches of both kinds come before a step."""
        rounds, rest = divmod(step, self.boxes + self.image_level)
        of_boxes = rounds * self.boxes + min(rest, self.boxes)
        return of_boxes, step - of_boxes

    def steps(self, of_boxes: int) -> int:
        """Steps until N = ``of_boxes`` box batches, whole turns with their image-level batches."""
        rounds, rest = divmod(of_boxes, self.boxes)
        return rounds * (self.boxes + self.image_level) + rest


class AlternatingDataset(Dataset):
    """Maps (whether it is image-level, key in its own stream); its length is that of the boxes'.

    Args:
        boxes: samples with boxes.
        image_level: samples with labels.
    """

    def __init__(self, boxes: StreamDataset, image_level: StreamDataset) -> None:
        self.boxes, self.image_level = boxes, image_level

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, key: tuple[bool, tuple[int, int]]) -> dict[str, Any]:
        image_level, place = key
        return (self.image_level if image_level else self.boxes)[place]


class AlternatingBatchSampler(Sampler):
    """This process's share of the batches of both kinds, without end.

    Args:
        boxes: begins where the step says, as does ``image_level``.
        image_level: batches of their own stream.
        turns: whose turn it is.
        start_iter: the first step.
    """

    def __init__(
        self,
        *,
        boxes: StreamBatchSampler,
        image_level: StreamBatchSampler,
        turns: Turns,
        start_iter: int,
    ) -> None:
        self.boxes, self.image_level = boxes, image_level
        self.turns, self.start_iter = turns, start_iter

    def __iter__(self) -> Iterator[list[tuple[bool, tuple[int, int]]]]:
        """Batches of keys of an `AlternatingDataset`."""
        batches = iter(self.boxes), iter(self.image_level)
        step = self.start_iter
        while True:
            image_level = self.turns.is_image_level(step)
            yield [(image_level, key) for key in next(batches[image_level])]
            step += 1


class AlternatingLoader(DataLoader):
    """A loader that knows how many of its batches go into epochs of the set with boxes.

    Args:
        turns: whose turn it is.
        options: of the `DataLoader`.
    """

    def __init__(self, *, turns: Turns, **options: Any) -> None:
        super().__init__(**options)
        self.turns = turns

    def iterations_until(self, batches: int) -> int:
        """Iterations until N = ``batches`` batches of images with boxes have come."""
        return self.turns.steps(batches)
