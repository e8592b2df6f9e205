"""The quickstart: 96 emoji in a three-level tree, learnt from scratch on two CPU cores."""

from ..common.train import train
from ..data.emojidet import dataloader, vocabulary
from ..models.cqdino_small import model
from .optim import lr_multiplier, optimizer

train.output_dir = "output/quickstart"
train.max_iter = 1800
train.eval_period = 0
train.checkpointer.period = 500
train.progress = "short"
train.clip_grad.max_norm = 1.0
train.ema.enabled = True
train.ema.decay = 0.99
dataloader.train.total_batch_size = 12  # learns as much per second as more images and fewer steps
optimizer.lr = 1.6e-3
dataloader.train.num_workers = 0  # two cores are best left to the model
