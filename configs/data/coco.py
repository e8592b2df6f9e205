"""COCO 2017: 80 categories without a tree."""

from .detection import dataloader, vocabulary

dataloader.train.dataset.names = "cq_coco_2017_train"
dataloader.test.dataset.names = "cq_coco_2017_val"
