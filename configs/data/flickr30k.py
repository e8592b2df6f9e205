"""Flickr30k Entities: the phrases of sentences."""

from .prompted import dataloader, vocabulary

dataloader.test.dataset.names = ["flickr30k_val", "flickr30k_test"]
