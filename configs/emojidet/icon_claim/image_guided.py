"""The full method with the paper's selection: all V categories go through two layers."""

from detectron2.config import LazyCall as L

from cqdino_d2.criterion import GradientBalance

from ..icons import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/icon_claim/image_guided"
model.criterion.observers = [L(GradientBalance)(period=20)]
