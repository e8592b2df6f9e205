"""For tests: the tiny model on EmojiDet with all its names in one caption, a few steps."""

from detectron2.config import LazyCall as L

from cqdino_d2.data import build_train_loader, get_prompted_records

from ..common.train import train
from ..data.emojidet import dataloader as emojidet
from ..data.prompted import dataloader, vocabulary
from ..emojidet.optim import lr_multiplier, optimizer
from ..models.grounding_dino_tiny import model

train.output_dir = "output/grounding_dino_tiny"
train.max_iter = 20
train.eval_period = 0
train.checkpointer.period = 10
train.log_period = 5
dataloader.train = L(build_train_loader)(
    dataset=L(get_prompted_records)(names="emojidet_train"),
    mapper=emojidet.train.mapper,
    total_batch_size=4,
    num_workers=0,
    seed="${train.seed}",
)
dataloader.test.dataset.names = "emojidet_val"
dataloader.test.mapper = emojidet.test.mapper
dataloader.test.num_workers = 0
lr_multiplier.warmup_iter = 2
