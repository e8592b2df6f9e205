"""A small model for images of 128 pixels: it learns from scratch on two CPU cores."""

from detectron2.config import LazyCall as L

from cqdino_d2.backbone import SmallResNet

from .cqdino_swin_b import model

WIDTH = 96

model.backbone = L(SmallResNet)(
    stem_channels=24, channels=[48, 96, 192], strides=[2, 2, 2], num_outputs=2
)
model.neck.in_channels = [96, 192]
model.neck.dim = WIDTH
model.neck.num_levels = 3
model.categories.dim = WIDTH
model.selection.map_channels = 192
model.selection.image_dim = WIDTH
model.selection.num_selected = 32
model.selection.hidden_dim = 2 * WIDTH
model.selection.dropout = 0.0
model.selection.force_targets = True
model.encoder.num_layers = 1
model.encoder.first_level = 1  # the finest level goes straight to the decoder
model.encoder.image_layer.num_heads = 4
model.encoder.image_layer.hidden_dim = 2 * WIDTH
model.encoder.exchange.attention_dim = WIDTH
model.encoder.exchange.dropout = 0.0
model.query_selection.num_queries = 30
model.denoising.num_queries = 12
model.decoder.num_layers = 2
model.decoder.num_heads = 4
model.decoder.hidden_dim = 4 * WIDTH
model.criterion.losses.focal.weight = 3.0  # boxes are learnt sooner than 96 categories
model.criterion.category_loss.weight = 2.0
model.criterion.category_loss.loss.gamma_negative = 4.0
model.autocast_dtype = "auto"  # bfloat16 where the processor has it
