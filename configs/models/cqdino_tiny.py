"""The smallest model that has every part, for tests."""

from .cqdino_small import model

model.backbone.stem_channels = 8
model.backbone.channels = [8, 16, 32]
model.backbone.strides = [2, 2, 2]
model.backbone.group_norm = True
model.neck.in_channels = [16, 32]
model.neck.dim = 32
model.neck.num_levels = 4
model.neck.num_groups = 8
model.categories.dim = 32
model.selection.map_channels = 32
model.selection.image_dim = 32
model.selection.num_selected = 8
model.selection.num_heads = 2
model.selection.hidden_dim = 48
model.selection.dropout = 0.1
model.selection.force_targets = False
model.encoder.image_layer.hidden_dim = 48
model.encoder.exchange.attention_dim = 32
model.encoder.num_layers = 2
model.encoder.first_level = 0
model.query_selection.num_queries = 20
model.decoder.hidden_dim = 48
model.autocast_dtype = None
