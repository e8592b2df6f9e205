"""CQ-DINO as the quickstart trains it: image-guided selection and the category tree."""

from detectron2.config import LazyCall as L

from cqdino_d2.criterion import GradientBalance

from ..quickstart import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/claim/tree"
train.max_iter = 1000
model.criterion.observers = [L(GradientBalance)(period=20)]
