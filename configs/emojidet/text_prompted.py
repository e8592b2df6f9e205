"""EmojiDet by words: trained with the names of base emoji, asked for novel ones as well."""

from ..data.emojidet_prompted import dataloader, vocabulary
from ..models.text_prompted_small import model
from .quickstart import dataloader as quickstart
from .quickstart import lr_multiplier, optimizer, train

train.output_dir = "output/text_prompted"
dataloader.train.total_batch_size = quickstart.train.total_batch_size
dataloader.train.num_workers = quickstart.train.num_workers
dataloader.train.mapper.prompts.num_negatives = 24
dataloader.train.mapper.prompts.full_share = 1.0
model.categories.tokenizer.max_tokens = 8192  # MiniLM reads names one by one
dataloader.evaluator.protocols = ["v3det"]
