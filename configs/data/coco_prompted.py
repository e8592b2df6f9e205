"""COCO 2017 val, asked for its 80 names in one caption; nothing of the training is needed."""

from .prompted import dataloader, vocabulary

dataloader.test.dataset.names = "cq_coco_2017_val"
