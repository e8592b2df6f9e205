"""COCO, self-attention over the categories, Swin-L: 24 epochs, 30 categories per image."""

from detectron2.config import LazyCall as L

from cqdino_d2.criterion import BinaryCrossEntropy

from ..common.optim import optimizer
from ..common.schedule import lr_multiplier_24ep as lr_multiplier
from ..common.train import train
from ..data.coco import dataloader, vocabulary
from ..models.cqdino_swin_l import model
from ..models.relations import self_attention

train.output_dir = "output/coco_cqdino_sa_swinl"
train.max_iter = "24ep"
train.base_batch_size = 16
train.eval_period = "2ep"
model.categories.relation = self_attention
model.selection.num_selected = 30
model.criterion.category_loss.loss = L(BinaryCrossEntropy)()
model.criterion.category_loss.weight = 0.1
