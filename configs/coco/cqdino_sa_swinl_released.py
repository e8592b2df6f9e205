"""COCO with the released form of the relation, for the released weights."""

from ..models.relations import length_one_self_attention
from .cqdino_sa_swinl import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/coco_cqdino_sa_swinl_released"
model.categories.relation = length_one_self_attention
