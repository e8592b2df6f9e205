"""V3Det, tree relation, the light form with EfficientViT-L1 at 640 pixels; see docs/edge.md."""

from ..models.cqdino_edge import model
from .cqdino_tree_swinb22k import dataloader, lr_multiplier, optimizer, train, vocabulary

train.output_dir = "output/v3det_cqdino_edge"
dataloader.train.mapper.augmentations.update(short_sides=list(range(320, 641, 32)), max_size=640)
dataloader.test.mapper.augmentations[0].update(short_edge_length=640, max_size=640)
