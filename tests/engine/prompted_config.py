"""A very small Grounding DINO, trained with prompts on EmojiDet for a few steps."""

from detectron2.config import LazyCall as L

from cqdino_d2.backbone import SmallResNet

from ...configs.common.train import train
from ...configs.data.emojidet_prompted import dataloader, vocabulary  # noqa: F401
from ...configs.emojidet.optim import lr_multiplier, optimizer  # noqa: F401
from ...configs.models.grounding_dino import model

model.backbone = L(SmallResNet)(
    stem_channels=8, channels=[8, 16, 32], strides=[2, 2, 2], num_outputs=2, group_norm=True
)
model.neck.update(in_channels=[16, 32], dim=16, num_levels=2, num_groups=4)
model.categories.language_model.update(
    hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20
)
model.encoder.num_layers = model.decoder.num_layers = 2
model.encoder.image_layer.update(num_heads=2, hidden_dim=24)
model.encoder.slot_layer.update(num_heads=2, hidden_dim=24)
model.encoder.exchange.update(attention_dim=8, num_heads=2, drop_path=0.0)
model.decoder.update(num_heads=2, hidden_dim=24)
model.query_selection.num_queries = 9
model.post_processor.num_detections = 11
dataloader.train.update(total_batch_size=4, num_workers=0)
dataloader.test.num_workers = 0
train.update(max_iter=2, eval_period=0, log_period=1, log_window=1, device="cpu")
lr_multiplier.warmup_iter = 1
