"""V3Det: 13,204 categories in a tree."""

from .detection import dataloader, vocabulary

dataloader.train.dataset.names = "v3det_train"
dataloader.test.dataset.names = "v3det_val"
