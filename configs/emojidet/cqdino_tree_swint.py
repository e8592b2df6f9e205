"""All of EmojiDet (1,884 emoji) with the tree relation and a Swin-T backbone, for one GPU."""

from ..common.optim import optimizer
from ..common.schedule import lr_multiplier_24ep as lr_multiplier
from ..common.train import train
from ..data.emojidet import dataloader, vocabulary
from ..models.cqdino_swin_b import model

train.output_dir = "output/emojidet_cqdino_tree_swint"
train.max_iter = 90_000
train.eval_period = 7_500
dataloader.train.num_workers = 4
optimizer.lr = 2e-4
train.base_batch_size = 16
optimizer.params.multipliers = dict()  # from scratch: nothing has been learnt yet
model.backbone.name = "swin_tiny_patch4_window7_224"
model.backbone.model_args.drop_path_rate = 0.1
model.neck.in_channels = [192, 384, 768]
model.selection.map_channels = 768
model.query_selection.num_queries = 100
