"""The baseline: DINO with a V-way sigmoid focal head, otherwise as `tree.py`."""

from detectron2.config import LazyCall as L

from cqdino_d2.criterion import GradientBalance

from ..icons_head import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/icon_claim/baseline"
model.criterion.observers = [L(GradientBalance)(period=20)]
