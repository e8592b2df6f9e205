"""RichSem (arXiv 2310.12152) on LVIS v1 and ImageNet's labels, R50: 24 epochs of LVIS."""

from ..common.optim import optimizer
from ..common.schedule import lr_multiplier_24ep as lr_multiplier
from ..common.train import train
from ..data.image_level import use_image_level_images
from ..data.lvis import dataloader, vocabulary
from ..models.richsem_r50 import model

train.output_dir = "output/lvis_richsem_r50"
train.max_iter = "24ep"
train.base_batch_size = 16
train.eval_period = "1ep"
train.category_embeddings = "datasets/lvis_clip_rn50.pth"
train.frozen = ["backbone.body.conv1", "backbone.body.layer1"]
dataloader.train.dataset.filter_empty = False
dataloader.train.mapper.augmentations.crop = True
use_image_level_images(dataloader, "imagenet_lvis_v1")
optimizer.lr = 1e-4
optimizer.params.multipliers = dict(backbone=dict(lr=0.1))
lr_multiplier.update(milestones=[20], warmup_iter=0)
