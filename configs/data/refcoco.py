"""RefCOCO, RefCOCO+ and RefCOCOg: one box for each expression."""

from .prompted import dataloader, vocabulary

dataloader.test.dataset.names = [
    "refexp_val",  # all three
    "refcoco_testA",
    "refcoco_testB",
    "refcoco_plus_testA",
    "refcoco_plus_testB",
    "refcocog_test",
]
