"""EmojiDet: images of 128 pixels, as `projects_tools/make_emojidet.py` makes them."""

from .detection import dataloader, vocabulary

dataloader.train.dataset.names = "emojidet_train"
dataloader.train.mapper.augmentations = []  # a flip would turn arrows and flags into others
dataloader.train.num_workers = 1
dataloader.test.dataset.names = "emojidet_val"
dataloader.test.mapper.augmentations[0].short_edge_length = 128
dataloader.test.mapper.augmentations[0].max_size = 256
dataloader.test.num_workers = 1
dataloader.test.batch_size = 25
dataloader.evaluator.protocols = ["coco", "lvis", "v3det"]
