"""The official Grounding DINO with Swin-B, evaluated on COCO with its names in one caption."""

from ..models.grounding_dino_swin_b import model
from .swint_ogc import dataloader, lr_multiplier, optimizer, train, vocabulary

train.output_dir = "output/grounding_dino_swinb_cogcoor"
