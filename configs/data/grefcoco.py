"""gRefCOCO: expressions without, with one or with several targets."""

from .prompted import dataloader, vocabulary

dataloader.test.dataset.names = ["grefcoco_val", "grefcoco_testA", "grefcoco_testB"]
