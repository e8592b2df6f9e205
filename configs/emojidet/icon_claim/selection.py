"""The full method without a relation among the categories."""

from detectron2.config import LazyCall as L
from torch.nn import Identity

from .tree import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/icon_claim/selection"
model.categories.relation = L(Identity)()
