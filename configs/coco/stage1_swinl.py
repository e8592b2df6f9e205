"""COCO, stage 1 of `cqdino_sa_swinl.py`: 10 epochs as a tagger."""

from ..common.schedule import lr_multiplier_cosine as lr_multiplier
from ..models.category_tagger import category_tagger_of, evaluator
from .cqdino_sa_swinl import dataloader, optimizer, train, vocabulary
from .cqdino_sa_swinl import model as _detector

model = category_tagger_of(_detector)
dataloader.evaluator = evaluator
train.output_dir = "output/coco_stage1_swinl"
train.max_iter = "10ep"
train.eval_period = "2ep"
train.best.metric = "tagging/mAP"
optimizer.lr = 1e-4
optimizer.params.multipliers = dict(backbone=dict(lr=0.1))
