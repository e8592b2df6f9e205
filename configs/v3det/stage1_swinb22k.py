"""V3Det, stage 1 of `cqdino_tree_swinb22k.py`: 10 epochs as a tagger."""

from ..common.schedule import lr_multiplier_cosine as lr_multiplier
from ..models.category_tagger import category_tagger_of, evaluator
from .cqdino_tree_swinb22k import dataloader, optimizer, train, vocabulary
from .cqdino_tree_swinb22k import model as _detector

model = category_tagger_of(_detector)
dataloader.evaluator = evaluator
train.output_dir = "output/v3det_stage1_swinb22k"
train.max_iter = "10ep"
train.eval_period = "2ep"
train.best.metric = "tagging/mAP"
optimizer.lr = 1e-4
optimizer.params.multipliers = dict(backbone=dict(lr=0.1))
