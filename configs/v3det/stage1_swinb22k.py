"""V3Det, stage 1 of `cqdino_tree_swinb22k.py`: 10 epochs as a tagger."""

from ..common.schedule import lr_multiplier_cosine as lr_multiplier
from ..models.category_tagger import category_tagger_of
from .cqdino_tree_swinb22k import dataloader, optimizer, train, vocabulary
from .cqdino_tree_swinb22k import model as detector

model = category_tagger_of(detector)
train.output_dir = "output/v3det_stage1_swinb22k"
optimizer.lr = 1e-4
optimizer.params.multipliers = dict(backbone=dict(lr=0.1))
