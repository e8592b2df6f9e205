"""EmojiDet by words: trained with the names of base emoji, asked for novel ones as well."""

from ..common.train import train
from ..data.emojidet_prompted import dataloader, vocabulary
from ..models.text_prompted_small import model
from .optim import lr_multiplier, optimizer

train.output_dir = "output/text_prompted"
train.max_iter = 1800
train.eval_period = 0
train.checkpointer.period = 500
train.progress = "short"
train.clip_grad.max_norm = 1.0
train.ema.enabled = True
train.ema.decay = 0.99
dataloader.train.total_batch_size = 12
dataloader.train.num_workers = 0  # two cores are best left to the model
dataloader.train.mapper.prompts.num_negatives = 24
dataloader.train.mapper.prompts.full_share = 1.0
model.categories.tokenizer.max_tokens = 8192  # MiniLM reads names one by one
dataloader.evaluator.protocols = ["v3det"]
optimizer.lr = 1.6e-3
