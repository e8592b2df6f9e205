"""CQ-DINO with image-guided selection; the categories have no relation."""

from detectron2.config import LazyCall as L
from torch.nn import Identity

from .tree import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/claim/selection"
model.categories.relation = L(Identity)()
