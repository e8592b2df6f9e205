"""For tests: the tiny model as RichSem, with a teacher and a text table that are made up."""

from detectron2.config import LazyCall as L

from cqdino_d2.backbone import random_clip_resnet
from cqdino_d2.data import random_category_embeddings
from cqdino_d2.layers import factory

from ..models.richsem import use_federated_loss, use_semantic_branch, use_text_table
from .tiny_tree import dataloader, lr_multiplier, model, optimizer, train, vocabulary

use_text_table(model)
use_federated_loss(model)
use_semantic_branch(model, table="")
train.output_dir = "output/emojidet_tiny_richsem"
model.categories.dim = 24
model.criterion.losses.focal.num_sampled = 20
model.criterion.losses.semantic.text_dim = 24
model.criterion.losses.semantic.table = L(factory)(
    module=random_category_embeddings, vocabulary="${vocabulary}", dim=24
)
model.teacher.tower = L(factory)(
    module=random_clip_resnet, layers=[1, 1, 1, 1], width=4, heads=2, dim=24
)
