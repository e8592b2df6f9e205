"""For tests: the tiny model with the tree relation, a few steps."""

from ..common.train import train
from ..data.emojidet import dataloader, vocabulary
from ..models.cqdino_tiny import model
from .optim import lr_multiplier, optimizer

train.output_dir = "output/emojidet_tiny_tree"
train.max_iter = 20
train.eval_period = 0
train.checkpointer.period = 10
train.log_period = 5
dataloader.train.total_batch_size = 4
dataloader.train.num_workers = 0
dataloader.test.num_workers = 0
lr_multiplier.warmup_iter = 2
