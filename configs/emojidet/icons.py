"""EmojiDet of thousands of icons, in the paper's order: pretrained backbone and text features."""

from ..common.train import train
from ..data.emojidet import dataloader, vocabulary
from ..models.cqdino_lite import model
from .optim import lr_multiplier, optimizer

train.output_dir = "output/icons"
train.max_iter = 6000
train.eval_period = 0
train.checkpointer.period = 500
train.clip_grad.max_norm = 1.0
train.ema.enabled = True
train.ema.decay = 0.99
dataloader.train.total_batch_size = 16
optimizer.params.multipliers = dict(backbone=dict(lr=0.1))
dataloader.train.num_workers = 0  # two cores are best left to the model
model.selection.num_selected = 100
model.query_selection.num_queries = 40
