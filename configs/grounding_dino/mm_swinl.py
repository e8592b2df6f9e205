"""MM-Grounding-DINO or LLMDet with Swin-L, evaluated on COCO with its names in one caption."""

from ..models.mm_grounding_dino_swin_l import model
from .mm_swint import dataloader, lr_multiplier, optimizer, train, vocabulary

train.output_dir = "output/mm_grounding_dino_swinl"
