"""`icons.py` with a selection by the most alike place: it hardly grows with the vocabulary."""

from cqdino_d2.categories import PooledSelection

from .icons import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/icons_pooled"
model.selection._target_ = PooledSelection
model.selection.num_layers = 1
optimizer.params.multipliers = dict(backbone=dict(lr=0.1), selection=dict(lr=3.0))
