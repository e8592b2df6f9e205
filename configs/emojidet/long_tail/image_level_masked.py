"""`image_level.py` in which the emoji alone teach no boxes, but for those of the proposals."""

from .image_level import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/long_tail/image_level_masked"
model.criterion.box_images_only = ["l1", "giou"]
