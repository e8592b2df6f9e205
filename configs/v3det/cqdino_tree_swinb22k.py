"""V3Det, tree relation, Swin-B from ImageNet-22k: 24 epochs, 16 images per step."""

from ..common.optim import optimizer
from ..common.schedule import lr_multiplier_24ep as lr_multiplier
from ..common.train import train
from ..data.v3det import dataloader, vocabulary
from ..models.cqdino_swin_b import model

train.output_dir = "output/v3det_cqdino_tree_swinb22k"
train.max_iter = "24ep"
train.base_batch_size = 16
train.eval_period = "2ep"
