"""The official Grounding DINO with Swin-T, evaluated on COCO with its names in one caption."""

from ..models.grounding_dino import model
from .mm_swint import dataloader, lr_multiplier, optimizer, train, vocabulary

train.output_dir = "output/grounding_dino_swint_ogc"
dataloader.test.mapper.augmentations[0].short_side_first = True
