"""LVIS minival, asked for its 1,203 names in as many passes as they take; scored by fixed AP."""

from .prompted import dataloader, vocabulary

dataloader.test.dataset.names = "cq_lvis_v1_minival_inserted_image_name"
dataloader.evaluator.protocols = ["lvis-fixed"]
