"""LVIS v1: 1,203 categories, long-tailed: images with rare categories are repeated."""

from .detection import dataloader, vocabulary

dataloader.train.dataset.names = "cq_lvis_v1_train"
dataloader.train.sampler = "repeat_factor"
dataloader.test.dataset.names = "cq_lvis_v1_val"
