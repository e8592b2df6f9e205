"""For tests: the tiny model on EmojiDet, asked by names, a few steps."""

from ..common.train import train
from ..data.emojidet_prompted import dataloader, vocabulary
from ..emojidet.optim import lr_multiplier, optimizer
from ..models.grounding_dino_tiny import model

train.output_dir = "output/grounding_dino_tiny"
train.max_iter = 20
train.eval_period = 0
train.checkpointer.period = 10
train.log_period = 5
dataloader.train.total_batch_size = 4
dataloader.train.num_workers = 0
dataloader.test.num_workers = 0
lr_multiplier.warmup_iter = 2
