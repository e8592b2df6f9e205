"""LVIS v1, stage 1 of `cqdino_sa_swinb.py`: 10 epochs as a tagger."""

from ..common.schedule import lr_multiplier_cosine as lr_multiplier
from ..models.category_tagger import category_tagger_of, evaluator
from .cqdino_sa_swinb import dataloader, optimizer, train, vocabulary
from .cqdino_sa_swinb import model as _detector

model = category_tagger_of(_detector)
dataloader.evaluator = evaluator
train.output_dir = "output/lvis_stage1_swinb"
train.max_iter = "10ep"
train.eval_period = "2ep"
train.best.metric = "tagging/mAP"
optimizer.lr = 1e-4
optimizer.params.multipliers = dict(backbone=dict(lr=0.1))
