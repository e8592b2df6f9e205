"""Grounding DINO's light form at 800 x 1333, trained with words as Swin-T is; see docs/edge.md."""

from ..models.grounding_dino_edge import model
from .pretrain_swint import dataloader, lr_multiplier, optimizer, train, vocabulary

train.output_dir = "output/grounding_dino_edge_800"
