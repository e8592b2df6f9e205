"""`semantic.py` with every second batch of mosaics of emoji alone."""

from ...data.image_level import use_image_level_images
from .semantic import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/long_tail/image_level"
use_image_level_images(dataloader, "emojidet_alone")
dataloader.train.image_level.mapper.mosaic.side = 96
