"""LVIS minival, scored by fixed AP; the annotations of the training are not needed."""

from .lvis import dataloader, vocabulary

vocabulary.name = "${dataloader.test.dataset.names}"
dataloader.test.dataset.names = "cq_lvis_v1_minival_inserted_image_name"
dataloader.evaluator.protocols = ["lvis-fixed"]
