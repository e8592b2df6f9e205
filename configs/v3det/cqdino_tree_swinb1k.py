"""V3Det, tree relation, Swin-B from ImageNet-1k with windows of 7."""

from .cqdino_tree_swinb22k import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/v3det_cqdino_tree_swinb1k"
model.backbone.name = "swin_base_patch4_window7_224.ms_in1k"
