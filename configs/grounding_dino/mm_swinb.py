"""MM-Grounding-DINO or LLMDet with Swin-B, evaluated on COCO with its names in one caption."""

from ..models.mm_grounding_dino_swin_b import model
from .mm_swint import dataloader, lr_multiplier, optimizer, train, vocabulary

train.output_dir = "output/mm_grounding_dino_swinb"
