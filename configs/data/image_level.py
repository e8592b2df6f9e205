"""Image-level images (a label, no box) among a training's images with boxes."""

from collections.abc import Sequence

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from cqdino_d2.data import (
    CategoryDatasetMapper,
    CutMosaic,
    ImageLevelBatches,
    get_image_level_records,
)


def use_image_level_images(dataloader: DictConfig, names: str | Sequence[str]) -> None:
    """A batch of image-level images after every batch with boxes, in place.

    The images are augmented as those with boxes. ``dataloader.train.image_level=null`` on the
    command line trains with boxes alone.

    Args:
        dataloader: of a training on registered sets.
        names: of one or several image-level sets.
    """
    dataloader.train.image_level = L(ImageLevelBatches)(
        dataset=L(get_image_level_records)(names=names, vocabulary="${vocabulary}"),
        mapper=L(CategoryDatasetMapper)(
            augmentations="${dataloader.train.mapper.augmentations}",
            mosaic=L(CutMosaic)(side=1280),
        ),
        total_batch_size="${dataloader.train.total_batch_size}",
        ratio=[1, 1],  # batches with boxes, then image-level batches
        sampler="uniform",
        mosaic=1.0,
    )
