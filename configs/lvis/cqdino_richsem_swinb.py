"""LVIS v1, `cqdino_sa_swinb.py` with RichSem's losses, semantic branch and image-level images."""

from ..data.image_level import use_image_level_images
from ..models.richsem import use_federated_loss, use_semantic_branch
from .cqdino_sa_swinb import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/lvis_cqdino_richsem_swinb"
use_image_level_images(dataloader, "imagenet_lvis_v1")
use_federated_loss(model)
use_semantic_branch(model, table="datasets/lvis_clip_rn50.pth")
