"""V3Det, tree relation, Swin-L."""

from ..models.cqdino_swin_l import model
from .cqdino_tree_swinb22k import dataloader, lr_multiplier, optimizer, train, vocabulary

train.output_dir = "output/v3det_cqdino_tree_swinl"
