"""The full method: the selection by the most alike place, and the category tree."""

from detectron2.config import LazyCall as L

from cqdino_d2.criterion import GradientBalance

from ..icons_pooled import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/icon_claim/tree"
model.criterion.observers = [L(GradientBalance)(period=20)]
