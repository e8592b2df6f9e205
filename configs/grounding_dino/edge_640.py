"""Grounding DINO's light form, the longer side of an image at 640 pixels; see docs/edge.md."""

from .edge_800 import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/grounding_dino_edge_640"
dataloader.train.mapper.augmentations.update(short_sides=list(range(320, 641, 32)), max_size=640)
dataloader.test.mapper.augmentations[0].update(short_edge_length=640, max_size=640)
