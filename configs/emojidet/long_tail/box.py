"""A long-tailed EmojiDet by boxes alone: the quickstart's detector as a DINO with a text table.

`projects_tools/study.py long_tail` makes the set, the table and the teacher of the other recipes.
"""

from ...models.richsem import use_text_table
from ..quickstart import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/long_tail/box"
train.max_iter = 600
train.category_embeddings = "datasets/long_tail/names.pth"
use_text_table(model)
model.categories.dim = 384  # MiniLM's
dataloader.train.sampler = "repeat_factor"
dataloader.train.repeat_threshold = 0.01
dataloader.test.mapper.augmentations[0].short_edge_length = 96
dataloader.evaluator.protocols = ["coco", "lvis"]
