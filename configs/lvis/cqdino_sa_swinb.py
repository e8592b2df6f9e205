"""LVIS v1, self-attention over the categories, Swin-B: 24 epochs, 100 categories per image."""

from ..common.optim import optimizer
from ..common.schedule import lr_multiplier_24ep as lr_multiplier
from ..common.train import train
from ..data.lvis import dataloader, vocabulary
from ..models.cqdino_swin_b import model
from ..models.relations import self_attention

train.output_dir = "output/lvis_cqdino_sa_swinb"
train.max_iter = "24ep"
train.base_batch_size = 16
train.eval_period = "2ep"
model.categories.relation = self_attention
