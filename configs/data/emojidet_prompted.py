"""EmojiDet, trained and asked by the names of its emoji."""

from .emojidet import dataloader as emojidet
from .prompted_training import dataloader, vocabulary

dataloader.train.dataset.names = emojidet.train.dataset.names
dataloader.train.mapper.augmentations = emojidet.train.mapper.augmentations
dataloader.train.num_workers = emojidet.train.num_workers
dataloader.test.dataset.names = emojidet.test.dataset.names
dataloader.test.mapper = emojidet.test.mapper
dataloader.test.num_workers = emojidet.test.num_workers
dataloader.test.batch_size = emojidet.test.batch_size
