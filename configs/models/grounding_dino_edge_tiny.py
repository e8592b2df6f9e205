"""The smallest light model that has every part, for tests."""

from .edge_form import use_edge_form
from .grounding_dino_tiny import model

use_edge_form(model)
model.backbone.update(
    fixed_statistics=False,  # nothing is pre-trained
    model_args=dict(widths=[8, 8, 16, 24, 32], depths=[1, 1, 1, 1, 1], head_dim=8),
)
model.neck.in_channels = [16, 24, 32]
model.encoder.image_layer.update(num_heads=4, hidden_dim=48)
model.encoder.merge.update(hidden_dim=16, num_convolutions=1)
model.query_selection.num_queries = 20
